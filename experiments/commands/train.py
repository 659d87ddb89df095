"""`deconv train`."""

import click


@click.command()
@click.argument("config", required=False)
@click.option(
    "--data", help="Pure samples: .h5ad, counts table, or a folder (data.path). With --resume:"
    " where they lie now, if not where they were.",
)  # fmt: skip
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="e.g. loss.presence_weight=2"
)
@click.option("--resume", metavar="RUN", help="Go on with a run: its folder, name or MLflow id.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto")
def train(
    config: str | None,
    data: str | None,
    overrides: tuple[str, ...],
    resume: str | None,
    device: str,
) -> None:
    """Train a network and track the run.

    CONFIG is a YAML file or a name: phase1_two_tissue, phase2_sparse, phase3_cfdna, demo,
    metdecode. With --resume it may be left out.
    """
    from rich.console import Console

    from experiments.console import quiet_libraries, results_table
    from experiments.launch import train_and_report

    quiet_libraries()
    result = train_and_report(config, data=data, overrides=overrides, resume=resume, device=device)
    console = Console()
    for set_name in ("val", "test"):
        if f"{set_name}/nnls/mae" in result.metrics:
            console.print(results_table(result.metrics, set_name))
    for name, value in result.metrics.items():
        if name.startswith("dilutions/"):
            console.print(f"{name}  {value:.3%}", highlight=False)
    run_id = result.run_id or "not sent yet"
    console.print(f"run {run_id}\nfolder {result.folder}", highlight=False)
