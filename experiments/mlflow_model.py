"""A bundle as an MLflow model, made without a server."""

import shutil
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from deconv.bundle import read_bundle
from deconv.files import replacing_folder
from deconv.predictor import CERTAINTY_COLUMNS

MODEL_FOLDER = "mlflow_model"
_REQUIREMENTS = ["torch", "numpy", "pandas", "scipy", "safetensors", "pydantic", "scikit-learn"]


def model_files(folder: Path, bundle: str) -> dict[str, str]:
    """Write, once, what MLflow puts around a bundle.

    Parameters
    ----------
    folder
        Of the run.
    bundle
        Name of the bundle's folder in it.

    Returns
    -------
    Paths in ``folder`` by their place in the model.
    """
    target = folder / MODEL_FOLDER
    if not target.exists():
        # Reading compares the hashes: a bundle that a power cut damaged is not logged.
        n_regions = len(read_bundle(folder / bundle).atlas.regions)
        with replacing_folder(target) as temporary:
            mlflow.pyfunc.save_model(
                path=temporary,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"bundle": str(folder / bundle)},
                input_example={
                    "methylated": np.zeros((1, n_regions), dtype=np.int64),
                    "coverage": np.ones((1, n_regions), dtype=np.int64),
                },
                signature=_signature(n_regions),
                pip_requirements=_REQUIREMENTS,
            )
            shutil.rmtree(temporary / "artifacts")  # a copy of the bundle
    places = {
        f"artifacts/bundle/{path.name}": f"{bundle}/{path.name}"
        for path in sorted((folder / bundle).iterdir())
    }
    around = sorted(path for path in target.rglob("*") if path.is_file())
    return places | {
        path.relative_to(target).as_posix(): path.relative_to(folder).as_posix() for path in around
    }


def _signature(n_regions: int) -> ModelSignature:
    counts: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype("int64"), (-1, n_regions), k) for k in ("methylated", "coverage")
    ]
    output: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.long, "sample"),
        ColSpec(DataType.string, "tissue"),
        ColSpec(DataType.double, "proportion"),
        ColSpec(DataType.string, "call"),
        *(ColSpec(DataType.double, name, required=False) for name in CERTAINTY_COLUMNS),
    ]
    return ModelSignature(Schema(counts), Schema(output))
