"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_SHARED = (
    click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path)),
    click.option(
        "--model", default="models:/sparse-deconvolution@production", show_default=True,
        help="A model URI of MLflow, a bundle's folder, a checkpoint, or an atlas' file.",
    ),
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


def takes_samples(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments of a command that analyses samples with a model."""
    for decorate in reversed(_SHARED):
        command = decorate(command)
    return command
