"""The workers of one machine or job: started, watched, replaced when they die."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType

from deconv.errors import DeconvError
from experiments.holder import process_name

FINISHED, REFUSED, INTERRUPTED = 0, 2, 75
"""Exit codes of a worker: nothing is left, it cannot work, it was asked to leave (EX_TEMPFAIL)."""
_MAX_RESTARTS = 8  # of workers that die again and again; each waits twice as long: four minutes
_PAUSE = 0.1


def supervise(
    folder: Path,
    *,
    processes: int,
    threads: int | None,
    device: str,
    tick: Callable[[], None] = lambda: None,
) -> int:
    """Keep workers at a study until nothing is left for them; return an exit code.

    A worker that dies is replaced. SIGTERM, SIGUSR1 and Ctrl-C ask all of them to leave.

    Parameters
    ----------
    tick
        Called now and then, to show what happens.

    Raises
    ------
    DeconvError
        If the workers cannot open the study, or keep dying.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tuning.worker"])  # torch and MLflow once, not per worker
    gpus = visible_gpus(device)
    tag = process_name().split("/")
    name = f"{tag[0].partition(':')[0]}-{tag[1]}"

    def log(index: int) -> Path:
        return folder / "logs" / f"worker-{name}-{index}.log"

    def start(index: int) -> ForkServerProcess:
        from tuning.worker import main  # as late as possible: it loads torch

        gpu = gpus[index % len(gpus)] if gpus else None
        arguments = (str(folder), str(log(index)), device, threads, gpu)
        process = context.Process(target=main, args=arguments, daemon=True)
        process.start()
        return process

    restarts, code = 0, FINISHED
    due: dict[int, float] = {}
    with _signals() as asked:
        working = {index: start(index) for index in range(processes)}
        told = False
        while working or (due and not told):
            for index in [i for i, when in due.items() if time.monotonic() >= when and not told]:
                del due[index]
                working[index] = start(index)
            if asked() and not told:
                told = True
                for process in working.values():
                    process.terminate()
            for index, process in list(working.items()):
                if process.is_alive():
                    continue
                process.join()
                del working[index]
                if process.exitcode == INTERRUPTED:
                    code = INTERRUPTED
                elif process.exitcode == REFUSED:
                    raise DeconvError("a worker gave up", where=log(index), got=_end(log(index)))
                elif process.exitcode != FINISHED and not told:
                    restarts += 1
                    if restarts > _MAX_RESTARTS * processes:
                        raise DeconvError(
                            "workers keep dying", where=log(index), got=_end(log(index))
                        )
                    pause = 2.0 ** ((restarts - 1) // processes) - 1
                    due[index] = time.monotonic() + pause
            tick()
            time.sleep(_PAUSE)
    return INTERRUPTED if told else code


def visible_gpus(device: str) -> list[str]:
    """Return the GPUs that workers here may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    SLURM sets that variable to those of the job. Workers take turns: each sees one.
    """
    if device == "cpu":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch  # the supervisor of a command loads it late

    return [str(i) for i in range(torch.cuda.device_count())]


def _end(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text().splitlines() if log.exists() else []
    return lines[-1] if lines else "nothing in its log"


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Yield whether a signal asked to leave."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
