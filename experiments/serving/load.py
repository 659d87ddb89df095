"""Clients that ask a scoring server as fast as it answers, and compare what it says."""

import http.client
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

_TIMEOUT = 300  # seconds; an answer that takes longer is a failure
_EVERY = 0.5  # seconds between two looks at the memory
_PAUSE = 0.1  # seconds after a failed connection
_CLOSE = 1e-6


@dataclass(frozen=True)
class Question:
    """The body of a request, and the proportions that are the right answer."""

    body: bytes
    expected: np.ndarray  # [samples x tissues], NaN where not assessable


@dataclass(frozen=True)
class Load:
    """What clients met in ``seconds``: a time for each answer, the reasons of failures."""

    seconds: float
    milliseconds: list[float]
    failures: list[str]
    memory: list[float]
    """Of the server, from before the first question on."""


def put_under_load(
    address: str,
    questions: Sequence[Question],
    *,
    n_clients: int,
    seconds: float,
    memory: Callable[[], float],
) -> Load:
    """Let clients, each with a connection of its own, ask in turns until the time is over."""
    begin = time.perf_counter()
    watched = [memory()]
    with ThreadPoolExecutor(n_clients) as pool:
        clients = [
            pool.submit(_ask, address, [*questions[i:], *questions[:i]], begin + seconds)
            for i in (n % len(questions) for n in range(n_clients))
        ]
        while not all(client.done() for client in clients):
            time.sleep(_EVERY)
            watched.append(memory())
        took = time.perf_counter() - begin
    found = [client.result() for client in clients]
    return Load(
        took,
        [each for times, _ in found for each in times],
        [each for _, failures in found for each in failures],
        watched,
    )


def _ask(address: str, questions: Sequence[Question], end: float) -> tuple[list[float], list[str]]:
    url = urlsplit(address)
    times: list[float] = []
    failures: list[str] = []
    with closing(http.client.HTTPConnection(url.netloc, timeout=_TIMEOUT)) as link:
        while time.perf_counter() < end:
            question = questions[(len(times) + len(failures)) % len(questions)]
            begin = time.perf_counter()
            try:
                headers = {"content-type": "application/json"}
                link.request("POST", url.path, question.body, headers)
                answer = link.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                link.close()  # the next request connects again
                failures.append(repr(error))
                time.sleep(_PAUSE)
                continue
            took = time.perf_counter() - begin
            if answer.status != 200:
                failures.append(f"status {answer.status}: {content[:200]!r}")
            elif not _is_right(content, question.expected):
                failures.append("another answer than the library's")
            else:
                times.append(1000 * took)
    return times, failures


def _is_right(content: bytes, expected: np.ndarray) -> bool:
    rows = json.loads(content)["predictions"]
    found = np.array([row["proportion"] for row in rows], dtype=float)  # None: NaN
    return found.shape == expected.shape and np.allclose(
        found, expected, rtol=0, atol=_CLOSE, equal_nan=True
    )
