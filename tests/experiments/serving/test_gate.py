"""What clients are told when the server itself is at fault, or they are too slow."""

import asyncio
import json

from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server

from experiments.serving.gate import Gate, Limits


def ask(app, *messages):
    """Status and content of the answer to a request whose body arrives in these messages."""
    sent, arriving = [], list(messages)

    async def receive():
        if not arriving:
            await asyncio.sleep(3600)
        return {"type": "http.request", **arriving.pop(0)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/invocations", "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    start, *parts = sent
    return start["status"], json.loads(b"".join(part["body"] for part in parts))


class Broken:
    def predict(self, model_input):
        raise RuntimeError("secret")


def test_fault_of_the_model_is_500_and_told_in_the_log_only(caplog):
    app = scoring_server.init(PyFuncModel(Model(), Broken()))
    status, content = ask(Gate(app, Limits(), "m"), {"body": b'{"inputs": [1]}'})
    assert (status, content) == (500, {"error": "the server failed; its log says why"})
    assert "RuntimeError: secret" in caplog.text


def test_body_that_does_not_arrive_is_given_up():
    app = scoring_server.init(PyFuncModel(Model(), Broken()))
    gate = Gate(app, Limits(body_timeout=0.05), "m")
    status, content = ask(gate, {"body": b'{"inputs"', "more_body": True})
    assert (status, content) == (408, {"error": "the body did not arrive within 0.05 s"})


def test_long_reason_is_cut():
    app = scoring_server.init(PyFuncModel(Model(), Broken()))
    status, content = ask(Gate(app, Limits(), "m"), {"body": json.dumps({"x" * 9000: 1}).encode()})
    assert status == 400
    assert len(content["error"]) == 503
