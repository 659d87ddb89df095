"""Tracked experiments: runs, their comparison, and the model registry, around MLflow.

MLflow decides when it is imported whether it reports its use to its makers. Here it does not: the
tool sees patients' data, and compute nodes have no network. Who wants it to sets
``MLFLOW_DISABLE_TELEMETRY=false``.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
