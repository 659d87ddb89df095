"""What a version's own page in the registry says: how it was judged, then its model card."""

import json
from collections.abc import Mapping, Sequence

from mlflow.tracking import MlflowClient

from deconv.errors import ConfigError
from experiments.gates import Policy, Verdict
from experiments.holder import person_name
from experiments.moves import QUALIFIED, now
from experiments.names import MODEL_NAME

MAX_TEXT = 5000
"""Characters that the registry's database keeps of a description or tag."""
_MAX_WHY = 500
_REST = "\n\n... the rest is in MODEL_CARD.md, among the files of the model.\n"


def check_reason(why: str) -> None:
    """Refuse a reason that is too long to be kept.

    Raises
    ------
    ConfigError
        If it is.
    """
    if len(why) > _MAX_WHY:
        raise ConfigError(
            "the reason is too long", where="--why", got=f"{len(why)} characters",
            expected=f"{_MAX_WHY} at most",
        )  # fmt: skip


def refusal(verdicts: Sequence[Verdict]) -> str:
    """Return the rules that were not met, with the reasons, in a line; empty if all were."""
    return shortened("; ".join(f"{v.rule}: {v.reason}" for v in verdicts if not v.passed))


def shortened(text: str, size: int = MAX_TEXT, rest: str = " ...") -> str:
    """Return a text that fits, cut at the end of a line or word if it was too long."""
    if len(text) <= size:
        return text
    kept = text[: size - len(rest)]
    at = max(kept.rfind("\n"), 0) or kept.rfind(" ")
    return kept[: at if at > 0 else None] + rest


def described(
    verdicts: Sequence[Verdict], facts: Mapping[str, str], *, why: str, when: str, card: str
) -> str:
    """Return the text of a version's page, in Markdown: first what was decided, in plain words."""
    failed = refusal(verdicts)
    head = f"refused: {shortened(failed, 300)}" if failed else "qualified: every rule is met"
    table = ["| rule | met | reason |", "| --- | --- | --- |"]
    table += [
        f"| {v.rule} | {'yes' if v.passed else '**no**'} | {v.reason.replace('|', '/')} |"
        for v in verdicts
    ]
    decided = f"Decided {when} by {person_name()}" + (f": {why}" if why else "")
    samples = f"{facts.get('judged.samples', 'no')} samples ({facts.get('judged.sha256', 'none')})"
    judged = f"Judged on {samples}; champion: {facts['judged.champion']}"
    text = "\n\n".join((head, decided, judged, "\n".join(table), "---", card))
    return shortened(text, rest=_REST)


def write_note(
    client: MlflowClient,
    version: str,
    policy: Policy,
    verdicts: Sequence[Verdict],
    facts: Mapping[str, str],
    *,
    why: str,
    card: str,
    qualified: bool,
) -> None:
    """Write on a version how it was judged; that it qualified comes last.

    Parameters
    ----------
    facts
        What it was judged on, as `experiments.judging.evidence` gives it.
    """
    when = now()
    text = described(verdicts, facts, why=why, when=when, card=card)
    client.update_model_version(MODEL_NAME, version, description=text)
    tags = {
        **facts,
        "decided.at": when,
        "decided.by": person_name(),
        "decided.why": why,
        "gates.sha256": policy.sha256,
        "verdicts": _table(verdicts),
        "refused": refusal(verdicts),
    }
    if qualified:
        tags[QUALIFIED] = when
    known = client.get_model_version(MODEL_NAME, version).tags
    for name, value in tags.items():
        if value or name in known:  # an empty one says nothing, but it may replace another
            client.set_model_version_tag(MODEL_NAME, version, name, value)


def _table(verdicts: Sequence[Verdict]) -> str:
    """Return all verdicts as JSON, with shorter reasons if they would not fit."""
    for size in (MAX_TEXT, 200, 50, 0):
        table = json.dumps([[v.rule, v.passed, v.reason[:size]] for v in verdicts])
        if len(table) <= MAX_TEXT:
            return table
    raise ConfigError("too many rules to be kept", where="gates", got=len(verdicts))
