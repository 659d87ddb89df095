"""What stands before MLflow's scoring server: limits, and answers fit to be read by clients.

MLflow's server takes bodies of any size, computes as many requests at once as it has threads,
and repeats a bad request and a traceback in its answer. Here a body that is too large is never
kept, few requests are parsed and computed at a time, and a refusal has its reason only.
"""

import asyncio
import json
import logging
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deconv.errors import InputError
from experiments.serving.request import check_request

SCORING = "/invocations"
JSON = "application/json"
_LONGEST_REASON = 500
_OUR_FAULT = "Encountered an unexpected error"  # MLflow gives it status 400

_logger = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Limits:
    """What a process of the server takes on.

    Attributes
    ----------
    max_bytes
        Largest body of a request.
    max_samples
        Most samples in a request.
    at_once
        Requests parsed and computed at a time, each in a thread; the others wait.
    max_waiting
        Most requests in the process, waiting ones included; further ones get status 503.
    body_timeout
        Seconds in which a body must have arrived.
    """

    max_bytes: int = 16_000_000
    max_samples: int = 64
    at_once: int = 1
    max_waiting: int = 64
    body_timeout: float = 30.0


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Gate:
    """An ASGI application around MLflow's; ``model`` names the model in a header of answers."""

    def __init__(self, app: ASGIApp, limits: Limits, model: str) -> None:
        self._app, self._limits = app, limits
        self._headers = {"x-deconv-model": model}
        self._turns = asyncio.Semaphore(limits.at_once)
        self._n_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what asks for anything but a score; let requests in as the limits say."""
        if scope["type"] != "http" or (scope["path"], scope["method"]) != (SCORING, "POST"):
            await self._app(scope, receive, send)
            return
        self._n_inside += 1
        try:
            response = await self._score(Request(scope, receive))
        except _Refused as refused:
            response = _refusal(refused.status, refused.reason)
        except ClientDisconnect:
            return
        finally:
            self._n_inside -= 1
        response.headers.update(self._headers)
        await response(scope, receive, send)

    async def _score(self, request: Request) -> Response:
        if self._n_inside > self._limits.max_waiting:
            raise _Refused(503, f"{self._limits.max_waiting} requests are waiting; try again")
        body = await self._read(request)
        kind = request.headers.get("content-type", "none").partition(";")[0].strip().lower()
        if kind != JSON:
            raise _Refused(415, f"the content type is not JSON; got {kind}; expected {JSON}")
        if not body.strip():
            raise _Refused(400, "the body is empty; expected a JSON object with inputs")
        async with self._turns:
            try:
                await asyncio.to_thread(check_request, body)
                status, answer = await _ask(self._app, request, body)
            except InputError as error:
                raise _Refused(400, str(error)) from error
            except RecursionError as error:
                raise _Refused(400, "the body is nested too deeply") from error
        if status == 200:
            return Response(answer, media_type=JSON)
        return _reworded(status, answer.decode())

    async def _read(self, request: Request) -> bytes:
        """Return the body; one that is too large is read to its end, but not kept.

        A client that is cut off while it sends sees a broken connection instead of the reason.
        """
        parts, size, largest = [], 0, self._limits.max_bytes
        try:
            async with asyncio.timeout(self._limits.body_timeout):
                async for part in request.stream():
                    size += len(part)
                    if size <= largest:
                        parts.append(part)
                    else:
                        parts.clear()
        except TimeoutError as error:
            seconds = f"{self._limits.body_timeout:g} s"
            raise _Refused(408, f"the body did not arrive within {seconds}") from error
        if size > largest:
            raise _Refused(
                413, f"the body is too large; got {size}; expected at most {largest} bytes"
            )
        return b"".join(parts)


async def _ask(app: ASGIApp, request: Request, body: bytes) -> tuple[int, bytes]:
    """Return status and body of what an application answers to a request with this body."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    status, parts = 500, []

    async def receive() -> Message:
        return unread.pop() if unread else await request.receive()

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await app(request.scope, receive, send)
    return status, b"".join(parts)


def _reworded(status: int, answer: str) -> Response:
    """Return MLflow's refusal without traceback and without what it repeats of the request."""
    try:
        said = json.loads(answer)
    except ValueError:
        said = {"message": answer}
    message, trace = said["message"], said.get("stack_trace")
    if status >= 500 or message.startswith(_OUR_FAULT):
        _logger.error("a request failed: %s\n%s", message, trace)
        return _refusal(504 if status == 504 else 500, "the server failed; its log says why")
    reason = message.partition("\nInput: ")[0].rpartition("Error: ")[2].strip()
    return _refusal(status, reason)


def _refusal(status: int, reason: str) -> JSONResponse:
    headers = {"retry-after": "1"} if status == 503 else None
    short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
    return JSONResponse({"error": short}, status, headers)
