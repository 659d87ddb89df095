"""The main job, end to end, on synthetic data."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from deconv.atlas import build_atlas
from deconv.counts import RegionCounts
from deconv.evaluate import draw_mixtures
from deconv.mixtures import MixingEngine
from deconv.simulate import TISSUES, simulate_atlas
from deconv.splits import split_by_donor
from deconv.store import write_h5ad
from deconv.stored import read_h5ad
from experiments.config import load_config
from experiments.console import results_table, verdict_table
from experiments.launch import train_and_report
from experiments.names import MODEL_NAME, PRODUCTION
from experiments.outputs import write_prediction
from experiments.predict import open_model, predict_files
from experiments.promotion import promote
from experiments.rundir import run_id_of

N_REGIONS, N_DONORS, DEPTH, SEED = 8_000, 7, 240.0, 1
N_PATIENTS = 8
_SHOWN_FROM = 0.005


def run_demo(folder: Path) -> None:
    """Run every step and print what each one found."""
    console = Console()
    atlas_path, patients_path = folder / "atlas.h5ad", folder / "patients.h5ad"
    console.rule("1. simulate an atlas of donors")
    simulate(atlas_path)
    console.print(f"{atlas_path}: {len(TISSUES)} tissues x {N_DONORS} donors, {N_REGIONS} regions")

    console.rule("2. train the two-stage network, tracked in MLflow")
    overrides = [f"output.directory={folder / 'runs'}"]
    result = train_and_report("demo", data=str(atlas_path), overrides=overrides)
    run_id = run_id_of(str(result.folder), str(result.folder.parent))
    console.print(f"run {run_id}", highlight=False)

    console.rule("3. promote")
    decision = promote(run_id, allow_changed_code=True, why="demo")
    model = f"models:/{MODEL_NAME}@{PRODUCTION}"
    if not decision.promoted:
        model = f"models:/{MODEL_NAME}/{decision.version}"
        console.print(f"{PRODUCTION} stays as it was; going on with the new version")
    console.print(f"{model} is run {run_id}", highlight=False)

    console.rule("4. predict patients with the model from the registry")
    patients = make_patients(atlas_path)
    write_h5ad(patients, patients_path)
    prediction = predict_files([patients_path], open_model(model))
    output = folder / "predictions.csv"
    _, figure = write_prediction(prediction, output)
    console.print(patient_table(prediction.table, patients))

    console.rule("results")
    for set_name in ("val", "test"):
        console.print(results_table(result.metrics, set_name))
    console.print(verdict_table(decision.verdicts))
    console.print(
        f"Predictions: {output} and {figure}\n"
        f"Miami plot:  {result.folder / 'figures' / 'miami.html'}\n"
        "The runs and the registry: deconv ui, then http://127.0.0.1:5000",
        highlight=False,
    )


def simulate(path: Path) -> None:
    """Write the demo's atlas."""
    with Progress(transient=True) as progress:
        task = progress.add_task("simulating donors", total=len(TISSUES) * N_DONORS)
        simulate_atlas(
            path, n_regions=N_REGIONS, n_donors=N_DONORS, depth=DEPTH, seed=SEED,
            advance=lambda: progress.advance(task),
        )  # fmt: skip


def make_patients(atlas_path: Path) -> RegionCounts:
    """Return cell-free-DNA-like mixtures of donors that the demo does not train on."""
    config = load_config("demo", overrides=["data.mixtures.designs={cfdna: 1.0}"])
    data = config.data
    split = split_by_donor(
        read_h5ad(atlas_path), n_validation=data.validation_donors, n_test=data.test_donors,
        seed=config.random_seed,
    )  # fmt: skip
    assert split.test is not None
    engine = MixingEngine(
        split.test, build_atlas(split.train), data.mixtures, seed=SEED, in_atlas=False
    )
    return draw_mixtures(engine, N_PATIENTS)


def patient_table(table: pd.DataFrame, patients: RegionCounts) -> Table:
    """Return true and predicted proportions, side by side."""
    truth = patients.proportions
    assert truth is not None
    shown = Table(title="patients: predicted (true)", title_justify="left")
    shown.add_column("sample")
    shown.add_column("tissues, % of DNA")
    for sample, rows in table.groupby("sample", sort=False):
        pairs = zip(rows["proportion"], truth.loc[str(sample)][rows["tissue"]], strict=True)
        named = sorted(zip(rows["tissue"], pairs, strict=True), key=lambda row: -max(row[1]))
        parts = [
            f"{tissue} {100 * predicted:.1f} ({100 * true:.1f})"
            for tissue, (predicted, true) in named
            if max(predicted, true) >= _SHOWN_FROM
        ]
        shown.add_row(str(sample), ", ".join(parts))
    return shown
