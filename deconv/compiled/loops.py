"""What is compiled, and where that is kept."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled_loop(**options: Any) -> Callable[[Loop], Loop]:
    """Have numba compile a function that lets other threads run, once for this machine.

    What it compiled is kept beside the module, or in the user's cache. Where neither can be
    written (a service without a home, on a read-only disk), each process compiles anew: a
    second a loop.

    Parameters
    ----------
    options
        Further ones of ``numba.njit``.
    """

    def compile_once(function: Loop) -> Loop:
        try:
            return njit(nogil=True, cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return njit(nogil=True, **options)(function)  # type: ignore[no-any-return]

    return compile_once
