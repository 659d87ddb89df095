"""`deconv benchmark accuracy`: trained networks beside every baseline, in every scenario."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from deconv.atlas import build_atlas
from deconv.benchmarks.accuracy import Row, compare, margin
from deconv.benchmarks.figures import accuracy_page
from deconv.benchmarks.scenarios import SCENARIOS, Scenario, draw_scenario
from deconv.bundle import read_bundle
from deconv.counts import RegionCounts
from deconv.files import write_text
from deconv.predictor import NetworkMethod
from deconv.simulate import TISSUES, simulate_atlas
from deconv.splits import split_by_donor
from deconv.store import write_h5ad
from deconv.stored import read_h5ad
from experiments.config import load_config
from experiments.launch import train_and_report
from experiments.lineage import run_line
from experiments.spool import SPOOL, Spool
from experiments.sync import Outbox

CONFIG, EXPERIMENT = "accuracy", "benchmark-accuracy"
N_DONORS, DEPTH = 7, 240.0
FACTS = ("scenario", "method", "seed", "depth", "n_samples")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured: all of it, or what five minutes allow."""

    n_regions: int = 51_089
    seeds: int = 3
    n_samples: int = 400
    n_validation: int = 150
    overrides: tuple[str, ...] = ()


QUICK_SIZE = Size(
    n_regions=8_000, seeds=1, n_samples=200, n_validation=100,
    overrides=("training.num_epochs=2", "data.validation_mixtures=400", "data.test_mixtures=100"),
)  # fmt: skip


def benchmark_accuracy(
    path: Path,
    *,
    size: Size,
    scenarios: Sequence[Scenario] = SCENARIOS,
    real: Callable[[], list[Row]] | None = None,
    report: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """Train and compare; write rows, margins and figures to ``path`` and beside it.

    Parameters
    ----------
    size
        Regions, seeds and samples.
    real
        Returns rows of real data, written as they are under ``real``.
    report
        Called with each scenario's rows as they come, for people.

    Returns
    -------
    A row per scenario, method and seed; each is an MLflow run too.
    """
    results: list[Row] = []
    margins: list[Row] = []
    content: dict[str, Any] = {"results": results, "margins": margins, "size": asdict(size)}
    with TemporaryDirectory() as name:
        for seed in range(size.seeds):
            arena = _Arena(Path(name) / str(seed), seed, size)
            for scenario in scenarios:
                rows = list(arena.rows(scenario))
                _log(rows)
                results += rows
                margins.append(margin(rows))
                report(rows)
                write_text(path, json.dumps(content, indent=1))  # what is done is kept
    if real is not None:
        content["real"] = real()
    write_text(path, json.dumps(content, indent=1))
    write_text(path.with_suffix(".html"), accuracy_page(results))
    return results


class _Arena:
    """A simulated panel, its donors, and the networks trained on them."""

    def __init__(self, folder: Path, seed: int, size: Size) -> None:
        folder.mkdir()
        self._folder, self._seed, self._size = folder, seed, size
        self._lacking = TISSUES[(5 + 7 * seed) % len(TISSUES)]
        self._config = load_config(CONFIG, overrides=size.overrides).data
        self._networks: dict[bool, NetworkMethod] = {}
        path = folder / "atlas.h5ad"
        simulate_atlas(path, n_regions=size.n_regions, n_donors=N_DONORS, depth=DEPTH, seed=seed)
        self._pure = read_h5ad(path)
        self._atlas = build_atlas(self._split(self._pure)["train"])

    def rows(self, scenario: Scenario) -> Iterator[Row]:
        """Yield the rows of a scenario."""
        network = self._network(scenario.lacks_tissue)
        donors = self._split(self._pure_of(scenario.lacks_tissue))
        if scenario.lacks_tissue:  # no network has seen any donor of it
            others = self._split(self._pure)
            for side, counts in donors.items():
                extra = others[side].samples["tissue"] == self._lacking
                names = [*counts.samples.index, *others[side].samples.index[extra]]
                donors[side] = self._pure.take(np.flatnonzero(self._is_named(names)))
        sizes = {"test": self._size.n_samples * scenario.n_times,
                 "validation": self._size.n_validation}  # fmt: skip
        drawn = {
            side: draw_scenario(
                scenario,
                donors[side],
                self._atlas,
                n=n,
                seed=1000 * self._seed + 10 * list(sizes).index(side),
                lacking=self._lacking,
            )
            for side, n in sizes.items()
        }
        facts = {"lacking": self._lacking} if scenario.lacks_tissue else {}
        for row in compare(
            scenario, network, samples=drawn["test"], validation=drawn["validation"],
            seed=self._seed,
        ):  # fmt: skip
            yield row | facts

    def _is_named(self, names: Sequence[str]) -> np.ndarray:
        return self._pure.samples.index.isin(names)

    def _pure_of(self, lacks_tissue: bool) -> RegionCounts:
        if not lacks_tissue:
            return self._pure
        return self._pure.take(np.flatnonzero(self._pure.samples["tissue"] != self._lacking))

    def _split(self, pure: RegionCounts) -> dict[str, RegionCounts]:
        """Split donors as a run on these samples does."""
        split = split_by_donor(
            pure, n_validation=self._config.validation_donors, n_test=self._config.test_donors,
            seed=self._seed,
        )  # fmt: skip
        assert split.validation is not None
        assert split.test is not None
        sides = {"train": split.train, "validation": split.validation, "test": split.test}
        return {side: counts.load() for side, counts in sides.items()}

    def _network(self, lacks_tissue: bool) -> NetworkMethod:
        """Train a network, once, as a tracked run."""
        if lacks_tissue not in self._networks:
            data = self._folder / ("lacking.h5ad" if lacks_tissue else "atlas.h5ad")
            if lacks_tissue:
                write_h5ad(self._pure_of(lacks_tissue), data)
            overrides = [
                f"random_seed={self._seed}",
                f"output.directory={self._folder / 'runs'}",
                f"output.experiment={EXPERIMENT}",
                *self._size.overrides,
            ]
            result = train_and_report(CONFIG, data=str(data), overrides=overrides)
            bundle = read_bundle(result.folder / "bundle")
            self._networks[lacks_tissue] = NetworkMethod(
                bundle.network, bundle.atlas, calibration=bundle.calibration
            )
        return self._networks[lacks_tissue]


def _log(rows: Sequence[Row]) -> None:
    """Make each row an MLflow run: facts as parameters, figures as metrics."""
    for row in rows:
        facts = {k: str(v) for k, v in row.items() if k in FACTS or isinstance(v, str)}
        figures = {
            f"test/{k}": float(v)
            for k, v in row.items()
            if k not in facts and isinstance(v, float | int)
        }
        name = f"{row['scenario']}-{row['method']}-{row['seed']}"
        with TemporaryDirectory() as folder:
            spool = Spool(Path(folder) / SPOOL)
            spool.append("run", **run_line(name, EXPERIMENT, {"kind": "benchmark"}))
            spool.append("params", params=facts)
            spool.append("summary", step=0, metrics=figures)
            spool.append("status", status="FINISHED")
            Outbox(Path(folder), spool.entries).send()
