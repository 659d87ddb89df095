"""`deconv tune`."""

import click

from tuning.commands.finish import finish, report


class _StartByDefault(click.Group):
    """A group in which what is no sub-command is a study to start."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``start`` before a study."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_StartByDefault)
def tune() -> None:
    """Tune loss weights, threshold and more in a study of many runs.

    `deconv tune STUDY.yaml` begins a study, or goes on with it. STUDY is elsewhere its folder,
    its name in studies/, or its YAML file.
    """


@tune.command()
@click.argument("study")
@click.option("--dry-run", is_flag=True, help="Print the sbatch script and submit nothing.")
def start(study: str, dry_run: bool) -> None:
    """Begin a study, or go on with one (also: deconv tune STUDY.yaml)."""
    from rich.console import Console

    from experiments.console import quiet_libraries
    from tuning.launch import start as start_study

    quiet_libraries()
    console = Console()
    code = start_study(study, console, dry_run=dry_run)
    if code:
        console.print(f"interrupted; go on with: deconv tune {study}", highlight=False)
        raise click.exceptions.Exit(code)


@tune.command(hidden=True)
@click.argument("folder")
@click.option("--processes", default=1)
@click.option("--threads", type=int)
@click.option("--device", default="auto")
def work(folder: str, processes: int, threads: int | None, device: str) -> None:
    """Work at a study here; what a job of the cluster does."""
    from rich.console import Console

    from experiments.console import quiet_libraries
    from tuning.launch import find_study, quiet_optuna, work_here

    quiet_libraries()
    quiet_optuna()
    console = Console()
    code = work_here(
        find_study(folder), console, processes=processes, threads=threads, device=device
    )
    raise click.exceptions.Exit(code)


@tune.command()
@click.argument("study")
def status(study: str) -> None:
    """Show trials, best, cost, time left, and failures with their reasons."""
    from rich.console import Console

    from tuning.launch import find_study, quiet_optuna
    from tuning.status import status_table, study_status

    quiet_optuna()
    Console().print(status_table(study_status(find_study(study)), n_rows=1000))


@tune.command()
@click.argument("study")
def watch(study: str) -> None:
    """Show the same, live, until the study is finished."""
    from rich.console import Console

    from tuning.launch import find_study, quiet_optuna
    from tuning.watching import watch as watch_study

    quiet_optuna()
    watch_study(find_study(study), Console())


@tune.command()
@click.argument("study")
def stop(study: str) -> None:
    """Ask all workers to leave at a checkpoint; deconv tune STUDY goes on later."""
    from tuning.launch import find_study, quiet_optuna
    from tuning.launch import stop as stop_study

    quiet_optuna()
    n_running = stop_study(find_study(study))
    click.echo(f"stopped; {n_running} trials are left at their checkpoints")


@tune.command()
@click.argument("study")
@click.option("--trials", type=click.IntRange(min=1), help="How many there may be in all.")
@click.option("--hours", type=float)
@click.option("--gpu-hours", type=float)
def extend(study: str, trials: int | None, hours: float | None, gpu_hours: float | None) -> None:
    """Change what a study may spend; workers that run see it, deconv tune STUDY starts more."""
    from tuning.config import BudgetConfig
    from tuning.launch import find_study, quiet_optuna
    from tuning.reading import validated

    quiet_optuna()
    given = {"trials": trials, "hours": hours, "gpu_hours": gpu_hours}
    changed = {key: value for key, value in given.items() if value is not None}
    if not changed:
        raise click.UsageError("say what: --trials, --hours or --gpu-hours")
    found = find_study(study)
    budget = validated(BudgetConfig, {**found.budget.model_dump(), **changed}, study)
    found.set_budget(budget)
    click.echo(f"{budget.trials} trials; start workers with: deconv tune {study}")


@tune.command()
@click.argument("study")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True)
def dashboard(study: str, host: str, port: int) -> None:
    """Serve Optuna's dashboard of a study."""
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        from deconv.errors import ConfigError

        raise ConfigError(
            "optuna-dashboard is not installed", expected="pip install optuna-dashboard"
        ) from error
    from tuning.launch import find_study, quiet_optuna

    quiet_optuna()
    click.echo(f"http://{host}:{port}", err=True)
    run_server(find_study(study).storage, host=host, port=port)


tune.add_command(report)
tune.add_command(finish)
