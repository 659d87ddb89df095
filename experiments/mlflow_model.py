"""A bundle as an MLflow model, made without a server."""

import shutil
from pathlib import Path

import mlflow

from deconv.bundle import read_bundle
from deconv.files import replacing_folder
from experiments.scoring import example_of, signature_of

MODEL_FOLDER = "mlflow_model"
CODE = Path(__file__).with_name("pyfunc_model.py")
"""What MLflow runs."""
REQUIREMENTS = ["torch", "numpy", "pandas", "scipy", "safetensors", "pydantic", "scikit-learn"]


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
        regions = read_bundle(folder / bundle).atlas.regions
        with replacing_folder(target) as temporary:
            mlflow.pyfunc.save_model(
                path=temporary,
                python_model=str(CODE),
                artifacts={"bundle": str(folder / bundle)},
                input_example=example_of(regions),
                signature=signature_of(regions),
                pip_requirements=REQUIREMENTS,
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
