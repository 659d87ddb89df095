"""Who may do what on a server with passwords.

There everybody may read everything and make experiments of their own (``default_permission``
READ, which no permission given by name takes away). More is given by name:

- ``train``: write to all experiments;
- ``promote``: also register models and move the aliases; deleting them needs the admin.

Routes of https://mlflow.org/docs/latest/self-hosting/security/basic-http-auth/
MLflow's own client of them, `mlflow.server.auth.client`, imports the whole server, in seconds.
"""

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from deconv.errors import ConfigError
from experiments.lease import make_book, unless_there
from experiments.names import BOOK, MODEL_NAME
from experiments.reading import EXPERIMENT
from experiments.registry import make_model
from experiments.server.secrets import USER_PASSWORD, read_secret, require_secret
from experiments.store import require_answer, store_name, tracking_errors

_EXPERIMENTS = {"resource_type": "experiment", "resource_id": "*"}
_MODELS = [{"resource_type": "registered_model", "resource_id": m} for m in (MODEL_NAME, BOOK)]
_MAY_EDIT: dict[str, list[dict[str, str]]] = {
    "read": [],
    "train": [_EXPERIMENTS],
    "promote": [_EXPERIMENTS, *_MODELS],
}
_USERS, _PERMISSIONS = "/api/2.0/mlflow/users/", "/api/3.0/mlflow/users/permissions/"


def let_in(name: str, access: str) -> bool:
    """Let a user read, train or promote, and do no more; return whether the user is new.

    The password of a new user is ``DECONV_USER_PASSWORD`` or in the file that
    ``DECONV_USER_PASSWORD_FILE`` names; if there is one, a known user gets it too.

    Raises
    ------
    ConfigError
        If the store is not a server, or there is no password for a new user.
    TrackingError
        If the server cannot be reached or has no passwords, or who asks is not its admin.
    """
    where = mlflow.get_tracking_uri()
    if not where.startswith(("http://", "https://")):
        raise ConfigError(
            "users are of a server", where=store_name(), expected="MLFLOW_TRACKING_URI of one"
        )
    require_answer()
    with tracking_errors(f"cannot let {name} {access}"):
        is_new = not _is_there("GET", f"{_USERS}get", params={"username": name})
        password = read_secret(USER_PASSWORD)
        if is_new:
            password = password or require_secret(USER_PASSWORD, f"the password of {name}")
            _ask("POST", f"{_USERS}create", json={"username": name, "password": password})
        _own_what_is_shared()
        for what in _MAY_EDIT["promote"]:
            _is_there("POST", f"{_PERMISSIONS}revoke", json={"username": name, **what})
        for what in _MAY_EDIT[access]:
            grant = {"username": name, **what, "permission": "EDIT"}
            _ask("POST", f"{_PERMISSIONS}grant", json=grant)
        if not is_new and password is not None:
            new = {"username": name, "password": password}
            _ask("PATCH", f"{_USERS}update-password", json=new)
    return is_new


def _own_what_is_shared() -> None:
    """Make experiment and registered models, if need be: who makes one may delete it."""
    client = MlflowClient()
    with unless_there():
        client.create_experiment(EXPERIMENT)
    make_model(client)
    make_book(client, BOOK)


def _ask(method: str, route: str, **content: object) -> None:
    host = get_default_host_creds(mlflow.get_tracking_uri())  # type: ignore[no-untyped-call]
    answer = http_request(host, route, method, **content)  # type: ignore[no-untyped-call]
    verify_rest_response(answer, route)


def _is_there(method: str, route: str, **content: object) -> bool:
    """Ask for something that may not be there; return whether it was."""
    try:
        _ask(method, route, **content)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True
