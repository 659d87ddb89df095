"""What several commands share: their options, and a quick start."""

import atexit
import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from experiments.names import MODEL_NAME, PRODUCTION, RECORDS

P = ParamSpec("P")
R = TypeVar("R")
model_option = click.option(
    "--model", default=f"models:/{MODEL_NAME}@{PRODUCTION}", show_default=True,
    help="A model URI of MLflow, a bundle's folder, a checkpoint, or an atlas' file.",
)  # fmt: skip
record_folder = click.option(
    "--records", type=click.Path(path_type=Path), envvar=RECORDS, show_envvar=True,
    help="Folder to record the predictions in; without, nothing is recorded.",
)  # fmt: skip
_RECORDING = (
    record_folder,
    click.option(
        "--record-names/--no-record-names", default=True, envvar="DECONV_RECORD_NAMES",
        show_envvar=True, show_default=True, help="Whether records have the samples' names.",
    ),
)  # fmt: skip
_ANALYSIS = (
    model_option,
    click.option(
        "--build", default="unknown", show_default=True, help="Genome build of the files."
    ),
    click.option(
        "--pseudo-coverage", type=int,
        help="Observations a mean stands for, in files that have no coverage.",
    ),
    click.option(
        "--min-overlap", default=0.9, show_default=True, type=click.FloatRange(0, 1),
        help="Share of the model's regions that a file must have.",
    ),
)  # fmt: skip


def takes_samples(command: Callable[P, R]) -> Callable[P, R]:
    """Add the arguments of a command that analyses samples with a model."""
    path = click.Path(path_type=Path, readable=False)  # an unreadable one is a finding of `check`
    files = click.argument("files", nargs=-1, required=True, type=path)
    return files(analyses(command))


def analyses(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options that say with which model, and how files are read."""
    return _with(command, _ANALYSIS)


def records(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options that say whether predictions are recorded."""
    return _with(command, _RECORDING)


def _with(command: Callable[P, R], options: tuple[Callable[..., Any], ...]) -> Callable[P, R]:
    for decorate in reversed(options):
        command = decorate(command)
    return command


def starts_quickly(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command that only reads and prints run without the collector of cyclic garbage.

    While MLflow's modules load, and once more before Python ends, it looks for garbage in them
    and finds none: a third of the time that a short command takes.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        was_on = gc.isenabled()
        gc.disable()
        atexit.register(gc.freeze)
        try:
            return command(*args, **kwargs)
        finally:
            if was_on:
                gc.enable()

    return run
