"""Promotion: only a model that met every rule becomes `production`, one at a time.

What can be judged alone is judged first. Then, holding the lease, the model is compared
with whatever is production at that moment, so that of two who promote at once the second
meets the first.
"""

from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from deconv.bundle import Bundle, read_bundle
from deconv.counts import RegionCounts
from deconv.errors import CheckpointError, ConfigError, MismatchError
from experiments.fetch import fetch_model, file_hashes, open_registered
from experiments.gates import (
    Policy,
    Verdict,
    check_against_champion,
    check_leakage,
    check_limits,
    check_lineage,
    check_sparse,
    check_tissues,
    load_policy,
)
from experiments.lease import held
from experiments.moves import alias, finish_interrupted, move_production
from experiments.names import BOOK, BUNDLE_HASH, MODEL_NAME, PREVIOUS, PRODUCTION
from experiments.note import check_reason, refusal, write_note
from experiments.referee import Examined, against, examine, recorded
from experiments.registry import finished_run, model_uri, register
from experiments.shipped import check_own
from experiments.store import tracking_errors
from experiments.wrapper import check_wrapper


@dataclass(frozen=True)
class Decision:
    """What became of a candidate: its version, None if none was registered.

    ``promoted`` says whether `production` names this model now.
    """

    run_id: str
    verdicts: list[Verdict]
    version: str | None
    promoted: bool
    replaced: str | None = None


@tracking_errors("cannot promote")
def promote(
    run_id: str,
    *,
    benchmark: RegionCounts | None = None,
    policy: Policy | None = None,
    allow_changed_code: bool = False,
    dry_run: bool = False,
    why: str = "",
) -> Decision:
    """Register a run's sparse model, and make it `production` if it meets every rule.

    The version replaced keeps the alias `previous`.

    Parameters
    ----------
    benchmark
        Samples of known proportions that challenger and champion answer anew; by default
        their runs' own test mixtures decide, which must be the same.
    dry_run
        Decide, but change nothing in the registry.

    Raises
    ------
    ConfigError
        If the run is not finished or has no model.
    CheckpointError
        If the model is damaged.
    LeaseError
        If others hold the lease for too long.
    TrackingError
        If the registry cannot be reached, or the user lacks the permission.
    """
    check_reason(why)
    client, policy = MlflowClient(), policy or load_policy()
    run = finished_run(client, run_id)
    reason = why or f"promote run {run.info.run_name}"
    verdicts = [check_sparse(run.data.params)]
    if verdicts[0].passed:
        folder = fetch_model(model_uri(run))
        bundle, hashes = read_bundle(folder), file_hashes(folder)
        verdicts = [
            check_sparse(_settings(bundle)),
            check_own(
                run, bundle.provenance, hashes[BUNDLE_HASH], has_answered=benchmark is not None
            ),
            check_wrapper(folder),
        ]
    if not all(verdict.passed for verdict in verdicts):  # not fit for the registry
        if not dry_run:
            with held(client, BOOK, run_id=run_id, why=reason) as lease:
                lease.describe(f"refused: {refusal(verdicts)} ({run.info.run_name})")
        return Decision(run_id, verdicts, None, False)
    alone, examined = _judge(run, bundle, policy, benchmark, allow_changed_code)
    verdicts += alone
    if dry_run:
        return Decision(run_id, verdicts + _compare(client, run, examined, policy, benchmark),
                        None, False)  # fmt: skip
    with held(client, BOOK, run_id=run_id, why=reason) as lease:
        finish_interrupted(client, lease)
        version = register(client, run, hashes)
        if alias(client, PRODUCTION) == version:  # it is judged already
            return Decision(run_id, verdicts, version, True)
        passed = all(verdict.passed for verdict in verdicts)
        if passed:
            verdicts += _compare(client, run, examined, policy, benchmark)
            passed = all(verdict.passed for verdict in verdicts)
        if passed:
            verify(client, version)
        write_note(
            client, version, policy, verdicts, why=why, card=bundle.card, qualified=passed
        )  # fmt: skip
        if not passed:
            lease.describe(f"refused: {refusal(verdicts)} (version {version})")
            return Decision(run_id, verdicts, version, False)
        replaced = move_production(client, lease, version)
    return Decision(run_id, verdicts, version, True, replaced)


@tracking_errors("cannot roll back")
def rollback(*, why: str = "") -> tuple[str, str]:
    """Make `previous` production again, and production `previous`; return both versions.

    Raises
    ------
    ConfigError
        If there is no previous version, or it did not meet the rules when it was promoted.
    CheckpointError
        If its files are not those that were promoted.
    TrackingError
        If the registry cannot be reached, or the user lacks the permission.
    """
    check_reason(why)
    client = MlflowClient()
    run_id = _production_run(client)
    with held(client, BOOK, run_id=run_id, why=why or "roll back") as lease:
        finish_interrupted(client, lease)
        present, previous = alias(client, PRODUCTION), alias(client, PREVIOUS)
        if present is None or previous in (None, present):
            raise ConfigError(
                "nothing to roll back to", where=MODEL_NAME,
                got=f"{PRODUCTION} {present}, {PREVIOUS} {previous}",
            )  # fmt: skip
        assert previous is not None
        verify(client, previous)
        move_production(client, lease, previous)
    return previous, present


def verify(client: MlflowClient, version: str) -> Bundle:
    """Check that a version is complete and the one that was registered.

    Raises
    ------
    CheckpointError
        If it is not.
    """
    if BUNDLE_HASH not in client.get_model_version(MODEL_NAME, version).tags:
        raise CheckpointError(
            "it is not known which files were registered", where=f"{MODEL_NAME} {version}"
        )
    return open_registered(MODEL_NAME, version)


def _judge(
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
    return [lineage, check_leakage(seen, examined.donors), *limits], examined


def _settings(bundle: Bundle) -> dict[str, bool]:
    """Return what decides whether a model is sparse, by the name of the run's parameter."""
    return {"model.use_two_stage": bundle.network.config.use_two_stage}


def _compare(
    client: MlflowClient,
    run: Run,
    examined: Examined | None,
    policy: Policy,
    benchmark: RegionCounts | None,
) -> list[Verdict]:
    """Return the verdicts against whatever is production now; none against itself."""
    rule, version = policy.champion, alias(client, PRODUCTION)
    if version is None:
        return [check_against_champion(None, rule), check_tissues({}, rule)]
    champion = client.get_run(str(client.get_model_version(MODEL_NAME, version).run_id))
    if champion.info.run_id == run.info.run_id:
        return []
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


def _production_run(client: MlflowClient) -> str:
    version = alias(client, PRODUCTION)
    if version is None:
        raise ConfigError("there is no production model", where=MODEL_NAME)
    return str(client.get_model_version(MODEL_NAME, version).run_id)
