"""Speed of mixing, training and prediction, beside the bare matrix products of a step.

Run as a module, it measures one setting and prints it as JSON; `measure` does that in a
process of its own, so that the peak memory is that of the setting alone.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from deconv.atlas import build_atlas
from deconv.benchmarks.naive import draw_mixture, write_patterns
from deconv.bundle import Bundle, read_bundle, write_bundle
from deconv.evaluate import draw_mixtures
from deconv.inference import calibrate
from deconv.losses import LossConfig, training_values
from deconv.memory import keep_freed_memory, peak_megabytes
from deconv.mixtures import MixingEngine, MixtureConfig
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.precision import Precision, product_dtype
from deconv.predictor import NetworkMethod
from deconv.prefetch import prefetch
from deconv.schedule import OptimizerConfig, SchedulerConfig, make_optimizer, make_scheduler
from deconv.simulate import simulate_atlas
from deconv.stored import read_h5ad
from deconv.train import TrainingConfig, TrainState, train

N_PREDICTED = 1000
_N_REPEATS = 5
_STEPS_PER_EPOCH = 4


def measure(n_regions: int, batch_size: int, device: str, precision: str) -> dict[str, Any]:
    """Return one result of ``deconv benchmark speed``, without the tracking share."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(n_regions), str(batch_size), device,
         precision],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _measure_here(
    n_regions: int, batch_size: int, device: torch.device, precision: Precision
) -> dict[str, Any]:
    if device.type == "cpu":
        keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate_atlas(folder / "a.h5ad", n_regions=n_regions, n_donors=4, depth=240, seed=0)
        pure = read_h5ad(folder / "a.h5ad")
        atlas = build_atlas(pure)
        config = MixtureConfig(designs={"several": 0.8, "pure": 0.2})
        engine = MixingEngine(pure, atlas, config, seed=0, in_atlas=True, device=device)
        network = TwoStageNetwork(ModelConfig(), atlas, read_effect=config.read_effect)
        network = network.to(device)

        mixing = _seconds(lambda i: engine.batch(i, batch_size), device)
        dtype = product_dtype(precision, device)
        step = _training_seconds(network, engine, batch_size, dtype)
        products = _seconds(_matrix_products(network, batch_size, device, dtype), device)
        peak = (
            torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else peak_megabytes()
        )
        samples = draw_mixtures(engine, N_PREDICTED)
        calibration = calibrate(network, draw_mixtures(engine, 200), device=device)
        method = NetworkMethod(network, atlas, calibration=calibration, device=device)
        predicting = _seconds(lambda i: method.predict(samples), device, n_repeats=3)
        write_bundle(folder / "bundle", Bundle(network, atlas))
        loading = _seconds(lambda i: read_bundle(folder / "bundle"), device, n_repeats=3)
        naive = _naive_seconds(folder, n_regions)
        network.compile_posterior()
        compiled = _training_seconds(network, engine, batch_size, dtype)
    return {
        "device": str(device),
        "precision": precision,
        "n_regions": n_regions,
        "batch_size": batch_size,
        "engine_per_s": batch_size / mixing,
        "step_per_s": batch_size / step,
        "compiled_step_per_s": batch_size / compiled,
        "roofline_per_s": batch_size / products,
        "naive_per_s": 1 / naive,
        "mixing_share": mixing / step,
        "peak_memory_mb": peak,
        "predict_1000_s": predicting,
        "load_s": loading,
    }


def _training_seconds(
    network: TwoStageNetwork, engine: MixingEngine, batch_size: int, dtype: torch.dtype
) -> float:
    """Time the training loop itself, per step, in the median epoch; mixing included."""
    config = TrainingConfig(
        num_epochs=_N_REPEATS + 1,  # the first epoch warms up
        batch_size=batch_size,
        mixtures_per_epoch=_STEPS_PER_EPOCH * batch_size,
    )
    optimizer = make_optimizer(network, OptimizerConfig(), learning_rate=1e-6, weight_decay=0.01)
    scheduler = make_scheduler(
        optimizer, SchedulerConfig(), n_steps=config.n_steps, warmup_ratio=0.1
    )
    ends: list[float] = []

    def save(state: TrainState, is_best: bool) -> None:
        _wait(engine.device)
        ends.append(time.perf_counter())

    class Nowhere:
        def log_metrics(self, metrics: Any, *, step: int) -> None:
            pass

    train(
        TrainState(model=network, optimizer=optimizer, scheduler=scheduler),
        lambda first, stop: prefetch(
            partial(engine.batch, size=batch_size), first, stop, config.workers_on(engine.device)
        ),
        partial(training_values, config=LossConfig(), called_from=0.5, dtype=dtype),
        config=config,
        validate=lambda model: {"none": 0.0},
        score="none",
        record=Nowhere(),
        save=save,
    )
    return float(np.median(np.diff(ends))) / _STEPS_PER_EPOCH


def _matrix_products(
    network: TwoStageNetwork, batch_size: int, device: torch.device, dtype: torch.dtype
) -> Callable[[int], None]:
    """Return the matrix products of a step with nothing around them, outputs reused.

    Those of the atlas estimator are float32 in any precision.
    """
    n_tissues, n_regions = network.estimator.mean.shape
    n_pairs = network.estimator.products.shape[1]
    hidden, wide = network.config.hidden_size, network.config.intermediate_size
    n_free = hidden - n_tissues
    exact = [
        (batch_size, n_regions, n_tissues + 1),  # first guess and its scale
        (batch_size, n_tissues, n_regions),  # its mean
        (batch_size, n_tissues, n_regions),  # its donor variance
        (batch_size, n_regions, n_pairs),  # Gram matrices
        (batch_size, n_regions, n_tissues),  # atlas rows
        (n_tissues, batch_size, n_regions),  # and their gradient
    ]
    learned = [
        (batch_size, n_regions, n_free),  # projection
        (n_free, batch_size, n_regions),  # and its gradient
    ]
    for n_in, n_out in [(hidden, hidden)] * 2 + [(hidden, wide)] + [(wide, n_tissues)] * 2:
        learned += [
            (batch_size, n_in, n_out),
            (n_in, batch_size, n_out),
            (batch_size, n_out, n_in),
        ]
    sets = [
        (torch.rand(m, k, device=device).to(number), torch.rand(k, n, device=device).to(number),
         torch.empty(m, n, device=device, dtype=number))
        for shapes, number in ((exact, torch.float32), (learned, dtype))
        for m, k, n in shapes
    ]  # fmt: skip

    def run(index: int) -> None:
        for left, right, out in sets:
            torch.mm(left, right, out=out)

    return run


def _naive_seconds(folder: Path, n_regions: int) -> float:
    write_patterns(folder / "naive.h5", n_samples=22, n_regions=n_regions, seed=0)
    rng = np.random.default_rng(0)
    with h5py.File(folder / "naive.h5") as file:
        return _seconds(lambda i: draw_mixture(file, rng), torch.device("cpu"), n_repeats=3)


def _seconds(
    work: Callable[[int], object], device: torch.device, n_repeats: int = _N_REPEATS
) -> float:
    """Return the median time of ``work``, after one call to warm up."""
    times = []
    for index in range(n_repeats + 1):
        begin = time.perf_counter()
        work(index)
        _wait(device)
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    chosen: Any = sys.argv[4]
    result = _measure_here(int(sys.argv[1]), int(sys.argv[2]), torch.device(sys.argv[3]), chosen)
    sys.stdout.write(json.dumps(result) + "\n")
