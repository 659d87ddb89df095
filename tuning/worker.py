"""A worker: claims trials and runs them, until none is left or it is asked to leave."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from deconv.errors import DeconvError
from experiments.console import quiet_libraries
from experiments.prepare import pick_device
from tuning.claims import REASON, Claim, Claims, LostError
from tuning.leaving import Leave, LeftError, signals
from tuning.local import FINISHED, INTERRUPTED, REFUSED
from tuning.objective import DataCache, Outcome, PrunedError, run_trial
from tuning.storage import StorageError
from tuning.study import Study
from tuning.trial_record import note, trial_folder

_LOOK = 0.2  # seconds between two looks at whether the worker was asked to leave
_log = logging.getLogger("deconv.tuning")


def work(place: Path, *, device: str = "auto", threads: int | None = None) -> int:
    """Work at a study; return an exit code.

    Raises
    ------
    DeconvError
        If the study cannot be opened.
    """
    quiet_libraries()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if threads is not None:
        torch.set_num_threads(threads)
    study = Study(place)
    claims, data, chosen = Claims(study), DataCache(), pick_device(device)
    leave, parent = Leave(), os.getppid()
    with signals(leave):
        while leave.reason is None:
            claim = claims.next()
            while claims.given_up:
                number, reason = claims.given_up.popitem()
                folder = trial_folder(study, number).path
                note(folder, "failed", study=study, number=number, reason=reason, status="FAILED")
            if claim == "done":
                return INTERRUPTED if study.is_stopped else FINISHED
            if claim == "wait":
                leave.sleep(study.config.lease_seconds / 8)
                continue
            _attempt(claims, claim, data, chosen, leave, parent)
    _log.warning("left: %s", leave.reason)
    return INTERRUPTED


def _attempt(
    claims: Claims, claim: Claim, data: DataCache, device: torch.device, leave: Leave, parent: int
) -> None:
    study = claims.study
    folder = trial_folder(study, claim.number).path
    begin = time.perf_counter()
    leave.claim = claim
    end: tuple[TrialState, list[float] | None, dict[str, Any]] | None
    with _beating(claims, claim, leave, parent):
        try:
            trial = claims.trial(claim)
            outcome = run_trial(study, trial, data, device, check=leave.check)
        except PrunedError as pruned:
            note(folder, "pruned", study=study, number=claim.number, reason=str(pruned))
            end = (TrialState.PRUNED, None, {REASON: str(pruned)})
        except LeftError:
            end = None
        except (StorageInternalError, SQLAlchemyError):
            raise  # the study's storage is away: nobody can be told, and the lease runs out
        except Exception as error:  # noqa: BLE001  whatever it is, the study goes on and says why
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            _log.exception("trial %d failed", claim.number)
            note(folder, "failed", study=study, number=claim.number, reason=reason)
            end = (TrialState.FAIL, None, {REASON: reason})
        else:
            end = (TrialState.COMPLETE, outcome.values, _attributes(outcome, begin))
    leave.claim = None
    try:
        if end is None:
            claims.release(claim)
        else:
            claims.finish(claim, *end)
    except LostError as error:
        _log.warning("%s", error)


def _attributes(outcome: Outcome, begin: float) -> dict[str, Any]:
    return {
        "threshold": outcome.threshold,
        "metrics": {k: v for k, v in outcome.metrics.items() if k.startswith(("val/", "best/"))},
        "run_id": outcome.run_id,
        "tracking_seconds": outcome.tracking_seconds,
        "last_seconds": time.perf_counter() - begin,
    }


@contextmanager
def _beating(claims: Claims, claim: Claim, leave: Leave, parent: int) -> Iterator[None]:
    """Renew the lease in a thread, and see there whether the worker is to leave."""
    over = threading.Event()

    def beat() -> None:
        due, told = time.monotonic() + claims.study.config.lease_seconds / 4, False
        while not over.wait(_LOOK):
            asked = leave.reason is not None
            if time.monotonic() < due and asked == told:
                continue
            due, told = time.monotonic() + claims.study.config.lease_seconds / 4, asked
            if os.getppid() != parent:
                leave.ask("the process that started this one is gone")
            try:
                claims.renew(claim, leaving=asked)
                if claims.study.is_stopped:
                    leave.ask("the study is stopped")
            except LostError:
                claim.until = 0.0
            except (StorageInternalError, SQLAlchemyError, OSError, DeconvError) as error:
                _log.warning("no sign of life given: %s", error)  # the lease may run out

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main(folder: str, log: str, device: str, threads: int | None, gpu: str | None) -> None:
    """Run a worker as a process of its own that writes to a log file, and sees one GPU at most."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks CUDA what there is
    with Path(log).open("a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _log.info("worker %d, device %s, GPU %s", os.getpid(), device, gpu or "none")
    try:
        code = work(Path(folder), device=device, threads=threads)
    except StorageError as error:  # it may come back
        _log.error("%s", error)
        code = 1
    except DeconvError as error:
        _log.error("%s", error)
        code = REFUSED
    sys.exit(code)
