"""A network on many samples, batch by batch: outputs, answers and their calibration.

Shape letters: N = samples, B = samples in a batch, T = tissues, R = regions.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deconv.attenuation import find_loss
from deconv.calibrate import Calibration, fit_by_depth, fit_presence
from deconv.certainty import Answer, answer, error_ratio
from deconv.counts import RegionCounts
from deconv.metrics import PRESENT_FROM
from deconv.model import TwoStageNetwork
from deconv.output import Output, join_outputs
from deconv.protocol import find_effects, on_atlas_scale
from deconv.unexplained import SMALLEST_UNKNOWN, UNKNOWN_MISLEADS, set_apart

BATCH_SIZE = 128
"""Samples at a time. Arrays of 50,000 regions are below 32 MB then, and memory is reused."""
Counted = tuple[Tensor, Tensor]
"""Methylated observations, of answers those on the atlas' scale (`deconv.protocol`), and
coverage of a batch."""
Parts = TypeVar("Parts", Output, Answer)


def run_network(network: TwoStageNetwork, counts: RegionCounts, device: torch.device) -> Output:
    """Return the network's output, in evaluation mode and without gradient."""
    return join_outputs([output for _, output in _outputs(network, counts, device)])


def answers(
    network: TwoStageNetwork,
    counts: RegionCounts,
    device: torch.device,
    calibration: Calibration,
) -> Iterator[tuple[Counted, Output, Answer]]:
    """Yield counts, a network's output and answer, batch by batch."""
    threshold = calls_from(calibration).to(device)
    for counted, output in _outputs(
        network, counts, device, calibration.protocol, calibration.loss
    ):
        with torch.inference_mode():
            said = answer(network, output, *counted, threshold)
        yield counted, output, said


def calls_from(calibration: Calibration) -> Float[Tensor, " T"]:
    """Return the probability, before calibration, from which each tissue is called."""
    return torch.from_numpy(calibration.threshold_logits()).float().sigmoid()


def _outputs(
    network: TwoStageNetwork,
    counts: RegionCounts,
    device: torch.device,
    protocol: Sequence[float] | None = None,
    loss: float | None = None,
) -> Iterator[tuple[Counted, Output]]:
    was_training = network.training
    network.eval()
    for methylated, coverage in _batches(counts, device):
        with torch.inference_mode():
            if protocol is not None:
                methylated = on_atlas_scale(network.estimator, methylated, coverage, protocol)
            output = network(methylated, coverage, typical_loss=loss)
        yield (methylated, coverage), output
    network.train(was_training)


def _batches(counts: RegionCounts, device: torch.device) -> Iterator[Counted]:
    for first in range(0, len(counts), BATCH_SIZE):
        rows = slice(first, first + BATCH_SIZE)
        yield _on(device, counts.methylated[rows]), _on(device, counts.coverage[rows])


def calibrate(
    network: TwoStageNetwork, validation: RegionCounts, *, device: torch.device | str = "cpu"
) -> Calibration | None:
    """Measure a network's certainty on mixtures of known proportions, at the atlas' regions.

    None for a network that has no presence stage or does not start at the atlas, and where
    no tissue is present in any mixture.
    """
    config = network.config
    assert validation.proportions is not None
    truth = validation.proportions.to_numpy()
    present = truth >= PRESENT_FROM
    if not (config.use_two_stage and config.atlas_start) or not present.any():
        return None
    device = torch.device(device)
    with torch.inference_mode():
        effects = [
            find_effects(network.estimator, *part).size for part in _batches(validation, device)
        ]
    protocol = torch.cat(effects).double().mean(dim=0).tolist()
    output = join_outputs([part for _, part in _outputs(network, validation, device, protocol)])
    logits, gram, moment = output.presence_logits, output.gram, output.moment
    assert logits is not None
    assert gram is not None
    assert moment is not None
    loss = float(find_loss(gram, moment).size.mean())
    slope, offset, thresholds = fit_presence(
        logits.double().cpu().numpy(), present, called_from=config.presence_threshold
    )
    first = Calibration(slope, offset, thresholds, [1.0], [0.0], [0.0], [0.0], protocol, loss)
    ratio, depth, misfit = [], [], []
    row = 0
    for _, _, said in answers(network, validation, device, first):
        true = torch.from_numpy(truth[row : row + len(said.depth)]).float().to(device)
        row += len(said.depth)
        ratio.append(error_ratio(said, true).cpu())
        depth.append(said.depth.cpu())
        misfit.append(said.misfit.cpu())
    ratios = torch.cat(ratio).double().numpy()
    by_depth = fit_by_depth(
        torch.cat(depth).double().numpy(),
        np.where(present, ratios, np.nan),
        torch.cat(misfit).double().numpy(),
    )
    return Calibration(slope, offset, thresholds, **by_depth, protocol=protocol, loss=loss)


def explained(
    network: TwoStageNetwork,
    counted: Counted,
    output: Output,
    said: Answer,
    flagged: Int[np.ndarray, " n"],
    threshold: Float[Tensor, " T"],
) -> tuple[Output, Answer, Float[Tensor, " B"]]:
    """Answer again for samples with DNA that the atlas cannot explain.

    A sample that misfits without such a share, as of another protocol, keeps its answer.
    """
    unknown = torch.zeros_like(said.depth)
    if not flagged.size:
        return output, said, unknown
    rows = torch.from_numpy(flagged).to(unknown.device)
    with torch.inference_mode():
        methylated, coverage = (array[rows] for array in counted)
        found = set_apart(
            network, methylated, coverage, said.proportions[rows], threshold.to(unknown.device)
        )
        has_unknown = found.unknown >= SMALLEST_UNKNOWN
        if not has_unknown.any():
            return output, said, unknown
        rows = rows[has_unknown]
        methylated, coverage = methylated[has_unknown], coverage[has_unknown]
        apart = found.take(has_unknown)
        again = answer(network, apart.output, methylated, coverage, threshold.to(unknown.device))
    share = apart.unknown[:, None]
    doubt = apart.proportions * UNKNOWN_MISLEADS * share / (1 - share).clamp(min=0.01)
    again = again._replace(
        proportions=apart.proportions, call=apart.call,
        mean=again.mean * (1 - share), std_error=again.std_error.hypot(doubt),
        misfit=said.misfit[rows], depth=said.depth[rows],
    )  # fmt: skip
    unknown[rows] = apart.unknown
    return _put(output, rows, apart.output), _put(said, rows, again), unknown


def _put(whole: Parts, rows: Int[Tensor, " n"], part: Parts) -> Parts:
    """Return a tuple of tensors with some of its rows replaced."""
    pairs: Any = zip(whole, part, strict=True)
    replaced: Any = [None if old is None else old.index_copy(0, rows, new) for old, new in pairs]
    return type(whole)(*replaced)


def _on(device: torch.device, array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32, order="C")).to(device)
