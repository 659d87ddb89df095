"""What is said of a store that is away, in few words."""

import pytest
from mlflow.exceptions import MlflowException

from experiments.store import first_line

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
