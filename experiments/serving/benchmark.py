"""`deconv benchmark serve`: a real server under load, beside calls of the library."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from deconv.atlas import build_atlas
from deconv.bundle import Bundle, read_bundle, write_bundle
from deconv.counts import RegionCounts
from deconv.errors import DeconvError
from deconv.evaluate import draw_mixtures
from deconv.files import write_text
from deconv.inference import calibrate
from deconv.memory import resident_megabytes
from deconv.mixtures import MixingEngine, MixtureConfig
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.simulate import simulate_atlas
from deconv.stored import read_h5ad
from experiments.scoring import ARRAYS, Scorer, request_of
from experiments.serving.load import Load, Question, put_under_load
from experiments.serving.server import cores_each

N_QUESTIONS = 16
_SECONDS_TO_WARM_UP, _SECONDS_TO_STOP = 3.0, 60


def benchmark_serving(
    path: Path,
    *,
    n_regions: int,
    n_samples: int,
    clients: Sequence[int],
    seconds: float,
    load_seconds: float,
    report: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Measure, report and write results: the library called directly, then a server of it.

    Parameters
    ----------
    n_samples
        In a request.
    seconds
        For each measurement.
    load_seconds
        For a last one, with the most clients, which tells whether the memory stays bounded.
    """
    with TemporaryDirectory() as name, _one_thread():
        samples = _make_model(Path(name, "bundle"), n_regions, N_QUESTIONS * n_samples)
        scorer = Scorer(read_bundle(Path(name, "bundle")))
        parts = [samples.take(range(i, i + n_samples)) for i in range(0, len(samples), n_samples)]
        about = {"n_regions": n_regions, "n_samples": n_samples}
        results = []

        def note(result: dict[str, Any]) -> None:
            results.append(about | result)
            report(results[-1])

        questions = _questions(scorer, parts)
        for n_threads in sorted({1, cores_each(1)}):
            begin = time.perf_counter()
            times = _ask_library(scorer, parts, n_threads, seconds)
            took = time.perf_counter() - begin
            note({"asked": "library", "clients": n_threads, **_figures(times, took, n_samples)})
        with _served(Path(name, "bundle")) as (address, process):
            ask = partial(
                put_under_load, address, questions, memory=lambda: resident_megabytes(process)
            )
            ask(n_clients=1, seconds=_SECONDS_TO_WARM_UP)
            for n_clients in clients:
                note(_result(ask(n_clients=n_clients, seconds=seconds), n_clients, n_samples))
            most = max(clients)
            note(_result(ask(n_clients=most, seconds=load_seconds), most, n_samples))
    write_text(path, json.dumps({"results": results}, indent=1))
    return results


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute each call in one thread, as the server does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _make_model(folder: Path, n_regions: int, n_samples: int) -> RegionCounts:
    """Write an untrained network of full size with its atlas; return mixtures to analyse."""
    atlas_file = folder.with_name("a.h5ad")
    simulate_atlas(atlas_file, n_regions=n_regions, n_donors=4, depth=240, seed=0)
    pure = read_h5ad(atlas_file).load()
    atlas = build_atlas(pure)
    config = MixtureConfig(designs={"several": 1.0}, depth=(5, 30))
    engine = MixingEngine(pure, atlas, config, seed=0, in_atlas=True)
    network = TwoStageNetwork(ModelConfig(), atlas, read_effect=config.read_effect).eval()
    mixtures = draw_mixtures(engine, n_samples)
    write_bundle(folder, Bundle(network, atlas, calibrate(network, mixtures)))
    return mixtures


def _questions(scorer: Scorer, parts: Sequence[RegionCounts]) -> list[Question]:
    found = []
    for part in parts:
        body = json.dumps(request_of(part), separators=(",", ":")).encode()
        found.append(Question(body, _call(scorer, part)["proportion"].to_numpy()))
    return found


def _call(scorer: Scorer, part: RegionCounts) -> pd.DataFrame:
    arrays = {name: getattr(part, name) for name in ARRAYS}
    return scorer.score(arrays, {"build": part.regions.build})


def _ask_library(
    scorer: Scorer, parts: Sequence[RegionCounts], n_threads: int, seconds: float
) -> list[float]:
    """Return the times, in ms, of calls in so many threads of this process."""
    end = time.perf_counter() + seconds

    def ask(first: int) -> list[float]:
        times: list[float] = []
        while (begin := time.perf_counter()) < end:
            _call(scorer, parts[(first + len(times)) % len(parts)])
            times.append(1000 * (time.perf_counter() - begin))
        return times

    with ThreadPoolExecutor(n_threads) as pool:
        return [each for times in pool.map(ask, range(n_threads)) for each in times]


@contextmanager
def _served(bundle: Path) -> Iterator[tuple[str, int]]:
    """Run `deconv serve`; yield its address and process."""
    command = [sys.executable, "-m", "deconv", "serve", "--model", str(bundle), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().partition(": ")[0]
        if not address:
            raise DeconvError("the server did not start", where="deconv serve")
        yield address, process.pid
        process.terminate()
        if process.wait(_SECONDS_TO_STOP) != 0:
            raise DeconvError("the server failed", where="deconv serve", got=process.returncode)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _result(load: Load, n_clients: int, n_samples: int) -> dict[str, Any]:
    memory = np.array(load.memory)
    return {
        "asked": "server",
        "clients": n_clients,
        **_figures(load.milliseconds, load.seconds, n_samples),
        "failures": len(load.failures),
        "first_failures": load.failures[:3],
        "memory_before_mb": memory[0],
        "memory_half_mb": memory[len(memory) // 2],
        "memory_after_mb": memory[-1],
        "memory_peak_mb": memory.max(),
    }


def _figures(milliseconds: Sequence[float], seconds: float, n_samples: int) -> dict[str, Any]:
    """Return rates, and latencies in ms; NaN where nothing was answered."""
    times = np.array(milliseconds or [np.nan])
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    n_answers = len(milliseconds)
    return {
        "seconds": seconds,
        "answers": n_answers,
        "answers_per_s": n_answers / seconds,
        "samples_per_s": n_samples * n_answers / seconds,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }
