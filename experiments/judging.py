"""What is said of a model: by itself, and against the present production model."""

from collections.abc import Sequence

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from deconv.bundle import Bundle
from deconv.counts import RegionCounts
from deconv.errors import MismatchError
from experiments.gates import (
    Policy,
    Verdict,
    check_against_champion,
    check_leakage,
    check_limits,
    check_lineage,
    check_samples,
    check_tissues,
)
from experiments.moves import alias
from experiments.names import BUNDLE_HASH, MODEL_NAME, PRODUCTION
from experiments.referee import Examined, against, examine, recorded
from experiments.registry import SHOWN, verify


def judge_alone(
    run: Run,
    bundle: Bundle,
    policy: Policy,
    benchmark: RegionCounts | None,
    allow_changed_code: bool,
) -> tuple[list[Verdict], Examined | None]:
    """Return what can be said without a champion, and what the model answered."""
    hashes = bundle.provenance.get("sha256", {})
    lineage = check_lineage(
        run.data.tags, policy.lineage, allow_changed_code=allow_changed_code,
        of_model={f"{name}.sha256": value for name, value in hashes.items()},
    )  # fmt: skip
    # What the model states is of its own making; the run's metrics can be logged anew.
    metrics = {**run.data.metrics, **bundle.provenance.get("metrics", {})}
    try:
        examined = recorded(run, bundle) if benchmark is None else examine(bundle, benchmark)
    except MismatchError as error:
        limits = check_limits(metrics, policy.metrics)
        return [lineage, *limits, Verdict("test", False, str(error))], None
    donors = bundle.provenance.get("donors", {})
    seen = None
    if donors:
        seen = [donor for part in ("train", "validation") for donor in donors.get(part, ())]
    limits = check_limits({**metrics, **examined.metrics}, policy.metrics)
    enough = check_samples(len(examined.predicted), examined.samples, policy.test)
    return [lineage, enough, check_leakage(seen, examined.donors), *limits], examined


def judge_against(
    client: MlflowClient,
    sha256: str,
    examined: Examined | None,
    policy: Policy,
    benchmark: RegionCounts | None,
) -> list[Verdict]:
    """Return the verdicts against whatever is production now; none against itself.

    Parameters
    ----------
    sha256
        Of the challenger's bundle.
    """
    rule, version = policy.champion, alias(client, PRODUCTION)
    if version is None:
        return [check_against_champion(None, rule), check_tissues({}, rule)]
    registered = client.get_model_version(MODEL_NAME, version)
    if registered.tags.get(BUNDLE_HASH) == sha256:
        return []
    champion = client.get_run(str(registered.run_id))
    name = "better than production"
    if examined is None:
        return [Verdict(name, False, "the model was not examined")]
    try:
        bundle = verify(client, version)
        theirs = recorded(champion, bundle) if benchmark is None else examine(bundle, benchmark)
        difference, losses = against(examined, theirs)
    except MismatchError as error:
        return [Verdict(name, False, str(error))]
    return [check_against_champion(difference, rule), check_tissues(losses, rule)]


def tells(verdicts: Sequence[Verdict]) -> bool:
    """Whether the samples were fit to judge a model: if not, it was not found to be bad."""
    return all(v.passed for v in verdicts if v.rule in ("samples", "donors"))


def evidence(examined: Examined | None, champion: str) -> dict[str, str]:
    """Return what a decision was made on, for the record: samples, results, champion."""
    facts = {"judged.champion": champion}
    if examined is not None:
        facts |= {
            "judged.samples": str(len(examined.predicted)),
            "judged.sha256": examined.samples,
            **{k: f"{v:.6g}" for k, v in examined.metrics.items() if k in SHOWN},
        }
    return facts
