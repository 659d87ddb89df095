"""What is said of a store that is away, in few words."""

import socketserver
import threading

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, NoCredentialsError
from mlflow.exceptions import MlflowException

from deconv.errors import ConfigError
from experiments.fetch import no_model
from experiments.store import (
    AwayError,
    RefusedError,
    artifact_errors,
    first_line,
    tracking_errors,
)

NO_ANSWER = "Remote end closed connection without response"


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (
            f"ProtocolError('Connection aborted.', RemoteDisconnected('{NO_ANSWER}'))",
            NO_ANSWER,
        ),
        (
            "NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=1): Failed to establish a "
            'new connection: [Errno 111] Connection refused")',
            "[Errno 111] Connection refused",
        ),
        (
            "ConnectTimeoutError(<HTTPConnection(host='10.0.0.1', port=1) at 0x7f>, "
            "'Connection to 10.0.0.1 timed out. (connect timeout=120)')",
            "Connection to 10.0.0.1 timed out. (connect timeout=120)",
        ),
        (
            "NameResolutionError(\"HTTPConnection(host='nope', port=80): Failed to resolve 'nope' "
            '([Errno -2] Name or service not known)")',
            "Failed to resolve 'nope' ([Errno -2] Name or service not known)",
        ),
        ("ResponseError('too many 503 error responses')", "too many 503 error responses"),
    ],
)
def test_first_line_is_the_inmost_reason(cause, expected):
    text = f"API request to http://x failed with exception y: /api (Caused by {cause})"
    assert first_line(MlflowException(text)) == expected
    assert first_line(MlflowException("another\nline")) == "another"


@pytest.mark.parametrize(
    "error",
    [
        NoCredentialsError(),
        ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject"),
        S3UploadFailedError("Failed to upload a"),
        ModuleNotFoundError("No module named 'boto3'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_an_artifact_store_are_ours(error):
    name = type(error).__name__
    refused = pytest.raises(RefusedError, match=f"a.png: the artifact store.*got {name}: ")
    with refused, artifact_errors("a.png", "sqlite:///a"):
        raise error
    away = pytest.raises(AwayError, match="cannot fetch a file; got ")
    with away, tracking_errors("cannot fetch a file"):
        raise error
    with pytest.raises(ConfigError, match="cannot fetch the model"), no_model("models:/m/1"):
        raise error


def test_errors_of_our_own_making_stay_what_they_are():
    for keeper in (tracking_errors("cannot read"), no_model("models:/m/1")):
        with pytest.raises(ZeroDivisionError), keeper:
            raise ZeroDivisionError


@pytest.fixture
def hung_up(monkeypatch):
    """The times that MLflow's clients called a server which ends every call without a word."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            calls.append(self.client_address)

    calls = []
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}")
        try:
            yield calls
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "command",
    [
        "leaderboard", "compare a b", f"runs show {'0' * 32}", "models", "promote",
        f"promote {'0' * 32}", "rollback", "server user ann --may read",
        "predict --model runs:/0/model x.csv",
    ],
)  # fmt: skip
def test_server_that_is_away_is_asked_once(hung_up, deconv, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    status, _, error = deconv(*command.split())
    assert (status, error.count("\n")) == (2, 1), error
    assert "cannot open the tracking store; got " in error
    assert len(hung_up) == 1
