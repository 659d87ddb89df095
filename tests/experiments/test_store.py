"""What is said of a store that is away, in few words."""

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
    with pytest.raises(RefusedError, match=f"a.png: the artifact store did.*got {name}: "):
        with artifact_errors("a.png"):
            raise error
    with pytest.raises(AwayError, match="cannot fetch a file; got "):
        with tracking_errors("cannot fetch a file"):
            raise error
    with pytest.raises(ConfigError, match="cannot fetch the model"), no_model("models:/m/1"):
        raise error


def test_errors_of_our_own_making_stay_what_they_are():
    for keeper in (tracking_errors("cannot read"), no_model("models:/m/1")):
        with pytest.raises(ZeroDivisionError), keeper:
            raise ZeroDivisionError
