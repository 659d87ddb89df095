"""Errors a user can act on. Each says what is wrong, where, what was got and expected."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class DeconvError(Exception):
    """A problem with what the user gave; the command line prints it and exits with 2.

    Parameters
    ----------
    what
        The problem in a few words.
    where
        The file, and the line, column, sample or key in it.
    got, expected
        The offending value and what would have been right, where that helps.
    """

    def __init__(
        self, what: str, *, where: object = None, got: Any = None, expected: Any = None
    ) -> None:
        text = what if where is None else f"{where}: {what}"
        if got is not None:
            text += f"; got {got}"
        if expected is not None:
            text += f"; expected {expected}"
        super().__init__(text)


class InputError(DeconvError):
    """A data file or array is malformed."""


@contextmanager
def from_file(where: object) -> Iterator[None]:
    """Name the file that an `InputError` in the block is of, unless it begins with it."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(str(where)):
            raise
        raise InputError(str(error), where=where) from error


class MismatchError(DeconvError):
    """Two well-formed things do not belong together: regions, builds, tissues, shapes."""


class LeakageError(DeconvError):
    """The same donor, or the same data, would be trained on and tested on."""


class ConfigError(DeconvError):
    """A configuration key or value is wrong."""


class DivergenceError(DeconvError, FloatingPointError):
    """Training left the numbers: a loss or gradient is not finite."""


class CheckpointError(DeconvError):
    """A checkpoint or model file is damaged, unsafe or of another format."""
