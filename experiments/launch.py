"""Start or resume a run the way a person asks for it."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from deconv.errors import ConfigError
from deconv.parallel import joined
from experiments.config import PATHS, OutputConfig, RunConfig, full_path, load_config, with_data
from experiments.console import RunProgress
from experiments.prepare import PreparedRun, pick_device, prepare_run
from experiments.run import RunResult, follow_training, run_training
from experiments.rundir import RunFolder


def train_and_report(
    source: str | None,
    *,
    data: str | None = None,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    device: str = "auto",
) -> RunResult:
    """Train with progress on standard error; Ctrl-C says how to go on and exits with 130.

    Under ``torchrun`` the first process reports; the others help and exit.

    Raises
    ------
    ConfigError
        If neither a configuration nor a run is given, or they contradict each other.
    """
    config, folder = None, None
    if source is not None:
        config = load_config(source, overrides=overrides, data=data)
    elif resume is None or overrides:
        raise ConfigError(
            "no configuration", expected="a CONFIG, or --resume RUN without settings"
        )
    if resume is not None:
        folder, config = find_run(resume, config, data)
        path = config.data.path
        if path is not None and not Path(path).exists():
            raise ConfigError(
                "the run's data are not there", where=folder.path, got=path,
                expected="--data with the place where they are now",
            )  # fmt: skip
    assert config is not None
    main_device = pick_device(device)
    with joined(main_device.type) as group:
        prepared = prepare_run(config, pick_device(device, group.local_rank), group)
        if folder is None:
            name = Path(str(source)).stem
            folder = group.from_first(RunFolder.create(config, name) if group.is_first else None)
        assert folder is not None
        if not group.is_first:
            follow_training(prepared, folder)
            sys.exit(0)
        return _train_visibly(prepared, folder)


def _train_visibly(prepared: PreparedRun, folder: RunFolder) -> RunResult:
    training = prepared.config.training
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with (
            RunProgress(training.n_steps, training.num_epochs) as progress,
            stopping_between_steps(console) as check,
        ):

            def advance(steps: int) -> None:
                progress.advance(steps)
                check()

            return run_training(prepared, folder, report=progress.report, advance=advance)
    except KeyboardInterrupt:
        console.print(f"interrupted; go on with: deconv train --resume {folder.path}")
        sys.exit(130)


@contextmanager
def stopping_between_steps(console: Console) -> Iterator[Callable[[], None]]:
    """Turn the first Ctrl-C or SIGTERM into a stop where no write is half done.

    Yields a check to be called between steps, which raises KeyboardInterrupt if a stop was
    asked for. A second signal stops at once.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        console.print("stopping after this step; once more to stop at once")

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def find_run(
    run: str, config: RunConfig | None, data: str | None = None
) -> tuple[RunFolder, RunConfig]:
    """Find a run to resume; a configuration given again must be the one it began with.

    Its data, which are known by their hash, may lie elsewhere: at ``data``, or where the
    configuration says.

    Raises
    ------
    ConfigError
        If there is no such run, or a setting differs.
    """
    output = config.output if config is not None else OutputConfig()
    folder = RunFolder.find(run, output.directory)
    begun = folder.config()
    if config is not None:
        now, then = config.flat(), begun.flat()
        for key in PATHS:  # earlier versions kept them as they were given
            then[key] = full_path(then[key]) if then[key] is not None else None
        now["data.path"] = then["data.path"]
        differing = [key for key in {**then, **now} if now.get(key) != then.get(key)]
        if differing:
            key = differing[0]
            raise ConfigError(
                f"{key} differs from the run's (it goes on as it began)", where=folder.path,
                got=now.get(key), expected=then.get(key),
            )  # fmt: skip
        data = data or config.data.path
    return folder, begun if data is None else with_data(begun, data)
