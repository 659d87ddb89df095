"""Promotion: only a model that met every rule becomes `production`, one at a time.

What can be judged alone is judged first. Then, holding the lease, the model is compared
with whatever is production at that moment, so that of two who promote at once the second
meets the first.
"""

from dataclasses import dataclass

from mlflow.tracking import MlflowClient

from deconv.bundle import read_bundle
from deconv.counts import RegionCounts
from deconv.errors import ConfigError
from experiments.fetch import fetch_model, file_hashes
from experiments.gates import Policy, Verdict, check_sparse, load_policy
from experiments.judging import evidence, judge_against, judge_alone, tells
from experiments.lease import held
from experiments.moves import (
    ROLL_BACK,
    alias,
    finish_interrupted,
    move_production,
    rolled_back,
    withdraw,
)
from experiments.names import BOOK, BUNDLE_HASH, MODEL_NAME, PREVIOUS, PRODUCTION
from experiments.note import check_reason, refusal, write_note
from experiments.registry import find_version, finished_run, model_uri, register, verify
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
    once: bool = False,
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
    once
        Do not promote what was rolled back: nobody asked for this run.

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
        sha256, has_answered = hashes[BUNDLE_HASH], benchmark is not None
        verdicts = [
            check_sparse({"model.use_two_stage": bundle.network.config.use_two_stage}),
            check_own(run, bundle.provenance, sha256, has_answered=has_answered),
            check_wrapper(folder),
        ]
    if not all(verdict.passed for verdict in verdicts):  # not fit for the registry
        if not dry_run:
            with held(client, BOOK, run_id=run_id, why=reason) as lease:
                lease.describe(f"refused: {refusal(verdicts)} ({run.info.run_name})")
        return Decision(run_id, verdicts, None, False)
    alone, examined = judge_alone(run, bundle, policy, benchmark, allow_changed_code)
    verdicts += alone
    if dry_run:
        verdicts += _not_again(client, find_version(client, run, hashes)) if once else []
        verdicts += judge_against(client, sha256, examined, policy, benchmark)
        return Decision(run_id, verdicts, None, False)
    with held(client, BOOK, run_id=run_id, why=reason) as lease:
        finish_interrupted(client, lease)
        version = register(client, run, hashes)
        if alias(client, PRODUCTION) == version:  # it is judged already
            return Decision(run_id, verdicts, version, True)
        if once and (back := _not_again(client, version)):
            lease.describe(f"refused: {refusal(back)}")
            return Decision(run_id, verdicts + back, version, False)
        is_fit = all(verdict.passed for verdict in verdicts)
        facts = evidence(
            examined, (alias(client, PRODUCTION) or "none") if is_fit else "not compared"
        )
        lease.note(facts)
        if is_fit:
            verdicts += judge_against(client, sha256, examined, policy, benchmark)
        passed = all(verdict.passed for verdict in verdicts)
        if passed:
            verify(client, version)
        elif examined is not None and not is_fit and tells(verdicts):
            withdraw(client, version)
        write_note(
            client, version, policy, verdicts, facts, why=why, card=bundle.card, qualified=passed
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
    with held(client, BOOK, run_id=run_id, why=why or ROLL_BACK, what=ROLL_BACK) as lease:
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


def _not_again(client: MlflowClient, version: str | None) -> list[Verdict]:
    """Return a refusal if a version was rolled back and has not been production since."""
    back = rolled_back(client)
    if version is None or version not in back:
        return []
    reason = f"version {version} was rolled back ({back[version]}): name its run to promote it"
    return [Verdict("not rolled back", False, reason)]


def _production_run(client: MlflowClient) -> str:
    version = alias(client, PRODUCTION)
    if version is None:
        raise ConfigError("there is no production model", where=MODEL_NAME)
    return str(client.get_model_version(MODEL_NAME, version).run_id)
