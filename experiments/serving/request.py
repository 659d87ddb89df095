"""What a request says, read before MLflow's server reads it.

That one leaves out what it does not know, so that a misspelled parameter would go unseen, and
fails at JSON that no answer can repeat.
"""

import json
import re
from typing import Any

from deconv.errors import InputError
from experiments.scoring import ARRAYS, PARAMS

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a character, which is no text; what a request names has no characters that need two."""


def check_request(body: bytes) -> None:
    """Refuse what is no request, or says more than is understood.

    Raises
    ------
    InputError
        If the body is no JSON object, or has other arrays or parameters than `ARRAYS`, `PARAMS`.
    """
    try:
        said = json.loads(body)
    except ValueError as error:
        raise InputError("the body is not JSON", got=f"{type(error).__name__}: {error}") from error
    except RecursionError as error:
        raise InputError("the body is nested too deeply") from error
    if not isinstance(said, dict):
        raise InputError("the body is no JSON object", got=type(said).__name__)
    if _SURROGATE.search(body):
        raise InputError("the body has half a character", got="an escape from \\ud800 to \\udfff")
    _refuse_others("inputs", said.get("inputs"), ARRAYS)
    _refuse_others("params", said.get("params"), PARAMS)


def _refuse_others(where: str, stated: Any, known: tuple[str, ...]) -> None:
    others = sorted(set(stated) - set(known)) if isinstance(stated, dict) else []
    if others:
        raise InputError(
            "not known", where=where, got=", ".join(others), expected=", ".join(known)
        )
