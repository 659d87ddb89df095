"""The composition root of a training run: configuration, data, model, loop, tracker."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from deconv.bundle import Bundle, bundle_hash, write_bundle
from deconv.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from deconv.errors import CheckpointError
from deconv.evaluate import score, true_proportions
from deconv.files import file_hash
from deconv.inference import calibrate, run_network
from deconv.losses import loss_terms, training_values
from deconv.metrics import HEADLINE
from deconv.mixtures import Batch
from deconv.model import TwoStageNetwork
from deconv.predictor import NetworkMethod, interpret
from deconv.prefetch import prefetch
from deconv.train import Metrics, Record, TrainState, train
from deconv.trained_range import trained_range
from experiments.data import RunData
from experiments.labels import result_tags
from experiments.mlflow_model import model_files
from experiments.model_card import donors, model_card
from experiments.names import BUNDLE_HASH
from experiments.prepare import PreparedRun
from experiments.results import evaluate_run, write_results
from experiments.rundir import RunFolder
from experiments.sides import STATS
from experiments.tracking import TrackedRun

BEST_BY = "val/mae"
AT_BEST = ("train/presence_accuracy", "val/presence_accuracy", *(f"val/{m}" for m in HEADLINE))
BEST, LAST = "checkpoint_best.pt", "checkpoint_last.pt"


@dataclass(frozen=True)
class RunResult:
    """A finished run; without ``run_id`` if no tracking store knows it yet."""

    run_id: str | None
    folder: Path
    metrics: dict[str, float]
    tracking_seconds: float = field(compare=False)


def run_training(
    prepared: PreparedRun,
    folder: RunFolder,
    *,
    report: Callable[[int, dict[str, float]], None] = lambda epoch, metrics: None,
    advance: Callable[[int], None] = lambda steps: None,
) -> RunResult:
    """Train, evaluate and log a run, or go on with one that was interrupted.

    Parameters
    ----------
    folder
        The run's own; what is there already is continued.
    report
        Called with each epoch's metrics, for people.
    advance
        Called with the number of optimizer steps just done (at once, those of a resumed run).

    Raises
    ------
    DeconvError
        If the folder is in use, of other data, or its disk is full.
    """
    config = prepared.config
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        tracked = folder.open_tracking(config, prepared.data, prepared.dtype)
        stack.enter_context(folder.ending(tracked))
        _restore(prepared, folder, advance)
        _train(
            prepared,
            record=stack.enter_context(folder.recorder(tracked, config, report)),
            save=partial(_save, folder=folder.path, data=prepared.data),
            advance=partial(advance, 1),
        )
        metrics = _conclude(prepared, folder, tracked)
    return RunResult(tracked.run_id, folder.path, metrics, tracked.seconds)


def follow_training(prepared: PreparedRun, folder: RunFolder) -> None:
    """Do the share of a parallel run that falls to a process other than the first."""
    _restore(prepared, folder, lambda steps: None)
    _train(prepared, record=Silent(), save=lambda state, is_best: None, advance=lambda: None)


class Silent:
    """Records nothing."""

    def log_metrics(self, metrics: Metrics, *, step: int) -> None:
        """Do nothing."""


def _restore(prepared: PreparedRun, folder: RunFolder, advance: Callable[[int], None]) -> None:
    if not (folder.path / LAST).exists():
        return
    saved = load_checkpoint(folder.path / LAST, device=prepared.device).state
    if saved is None:
        raise CheckpointError("a checkpoint without a state to go on from", where=folder.path)
    prepared.state.load_state_dict(saved)
    advance(prepared.state.epoch * prepared.config.training.steps_per_epoch)


def _train(
    prepared: PreparedRun,
    *,
    record: Record,
    save: Callable[[TrainState, bool], None],
    advance: Callable[[], None],
) -> None:
    config, state, group = prepared.config, prepared.state, prepared.group
    forward = group.wrap(state.model)
    values = partial(
        training_values, config=config.loss, called_from=config.model.presence_threshold,
        dtype=prepared.dtype,
    )  # fmt: skip
    train(
        state,
        partial(_batches, prepared=prepared),
        lambda model, batch: values(forward, batch),
        config=config.training,
        validate=partial(_validate, prepared=prepared),
        score=BEST_BY,
        record=record,
        save=save,
        advance=advance,
        over_processes=group.mean,
    )


def _batches(first: int, stop: int, *, prepared: PreparedRun) -> Iterable[Batch]:
    training = prepared.config.training
    rows = prepared.group.rows(training.batch_size)
    make = partial(prepared.data.train.batch, size=training.batch_size, rows=rows)
    return prefetch(make, first, stop, training.workers_on(prepared.device))


def _validate(model: TwoStageNetwork, *, prepared: PreparedRun) -> dict[str, float]:
    config, data, device = prepared.config, prepared.data, prepared.device
    output = run_network(model, data.validation, device)
    result = interpret(output, model, data.atlas)
    truth = torch.from_numpy(true_proportions(result, data.validation)).float().to(device)
    terms = loss_terms(output, truth, config.loss)
    metrics = score(result, data.validation, present_from=config.loss.presence_threshold)
    metrics |= {name: float(value) for name, value in terms.items()}
    return {f"val/{name}": value for name, value in metrics.items()}


def _save(state: TrainState, is_best: bool, *, folder: Path, data: RunData) -> None:
    assert isinstance(state.model, TwoStageNetwork)
    checkpoint = Checkpoint(state.model, data.atlas, state.epoch, state.state_dict())
    # The best first: were the last one written and the best not, a resumed run would miss it.
    if is_best:
        save_checkpoint(folder / BEST, Checkpoint(state.model, data.atlas, state.epoch))
    save_checkpoint(folder / LAST, checkpoint)


def _conclude(prepared: PreparedRun, folder: RunFolder, tracked: TrackedRun) -> dict[str, float]:
    """Evaluate the best weights, not the last, and record everything that a reader needs."""
    config, data, device = prepared.config, prepared.data, prepared.device
    best = load_checkpoint(folder.path / BEST, device=device)
    calibration = calibrate(best.network, data.validation, device=device)
    method = NetworkMethod(best.network, data.atlas, calibration=calibration, device=device)
    metrics, tables = evaluate_run(method, data, present_from=config.loss.presence_threshold)
    at_best = tracked.spool.points[best.epoch]
    metrics |= {f"best/{name}": at_best[name] for name in AT_BEST if name in at_best}
    metrics |= {"best/epoch": best.epoch, "val/loss_trend": folder.loss_trend(tracked.spool)}
    facts = {"run_id": tracked.known_run_id(), "run": folder.path.name, "epoch": best.epoch}
    write_results(folder.path, metrics, tables, facts)
    bundle = folder.path / "bundle"
    if not bundle.exists():
        hashes = {"data": data.pure.content_hash, "atlas": data.atlas.content_hash}
        tested = data.test if data.test is not None else data.validation
        evidence = {
            "tested_on": tested.content_hash[:16], "answers": file_hash(folder.path / STATS)
        }  # fmt: skip
        origin = {
            **facts, **evidence, "sha256": hashes, "donors": donors(data), "metrics": metrics
        }  # fmt: skip
        card = model_card(folder.path.name, config, data, metrics, tables["summary_stats"])
        trained = trained_range(method, data.atlas, data.validation)
        whole = Bundle(best.network, data.atlas, calibration, origin, card, trained)
        write_bundle(bundle, whole)
    tracked.log_params({BUNDLE_HASH: bundle_hash(bundle)})
    tracked.log_summary(metrics, step=best.epoch)
    tracked.set_tags(result_tags(config, data.atlas, metrics))
    tracked.log_files(folder.artifacts())
    with tracked.waiting():
        files = model_files(folder.path, "bundle")
    tags = {"checkpoint": BEST, "epoch": str(best.epoch), "run": folder.path.name}
    tracked.log_model("model", files, step=best.epoch, tags=tags)
    return metrics
