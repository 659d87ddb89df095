"""What MLflow puts around a bundle, and runs: only what this package writes is accepted.

`mlflow.pyfunc.load_model` and `mlflow models serve` follow the file ``MLmodel``, which may name
any module, pickle or folder of code, and install what ``requirements.txt`` asks for.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from experiments.gates import Verdict
from experiments.mlflow_model import CODE, REQUIREMENTS

_RULE = "MLflow's wrapper"
_ENVIRONMENT = ("conda.yaml", "python_env.yaml", "requirements.txt")
_FILES = {
    "MLmodel", "registered_model_meta", "input_example.json", "serving_input_example.json",
    CODE.name, *_ENVIRONMENT,
}  # fmt: skip
_KEYS = {
    "artifacts", "cloudpickle_version", "code", "env", "loader_module", "model_code_path",
    "python_version", "streamable",
}  # fmt: skip
_WORDS = {
    *REQUIREMENTS, "mlflow", "python", "pip", "setuptools", "wheel", "conda-forge", "mlflow-env",
    "channels", "dependencies", "build_dependencies", "name",
}  # fmt: skip
_WORD = re.compile(r"(?P<name>[a-z_-]*)(?:(?:==|<=|=)?[0-9][0-9a-z.+]*)?")


def check_wrapper(bundle: Path) -> Verdict:
    """Require that MLflow would run this package's code, on the bundle, and nothing else.

    Parameters
    ----------
    bundle
        The bundle's folder in that of the fetched model.
    """
    root = bundle.parent.parent
    try:
        problem = _problem(root)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = f"cannot be read: {str(error).splitlines()[0]}"
    return Verdict(_RULE, not problem, problem or "as this package writes it")


def _problem(root: Path) -> str:
    """Return what is not as this package writes it; empty if all is."""
    for path in sorted(root.iterdir()):
        if path.name not in _FILES | {"artifacts"}:
            return f"{path.name} does not belong there"
    for path in sorted((root / "artifacts").iterdir()):
        if path.name != "bundle":
            return f"artifacts/{path.name} does not belong there"
    if (root / CODE.name).read_bytes() != CODE.read_bytes():
        return f"{CODE.name} is not that of this version of the package"
    about = yaml.safe_load((root / "MLmodel").read_text(encoding="utf-8"))
    flavors = about.get("flavors") if isinstance(about, dict) else None
    if not isinstance(flavors, dict) or flavors.keys() != {"python_function"}:
        return "MLmodel has other flavors than python_function"
    odd = _oddity(flavors["python_function"])
    if odd:
        return f"MLmodel: {odd} is not as this package writes it"
    for name in _ENVIRONMENT:
        text = (root / name).read_text(encoding="utf-8")
        content = text.splitlines() if name.endswith(".txt") else yaml.safe_load(text)
        for word in _words(content):
            found = _WORD.fullmatch(word)
            own = found is not None and found["name"] in _WORDS | {""}
            if not own and word != "-r requirements.txt":
                return f"{name} asks for {word[:50]}"
    return ""


def _oddity(flavor: Any) -> str:
    """Return the first setting by which MLflow would load something else; empty if none."""
    if not isinstance(flavor, dict):
        return "python_function"
    unknown = sorted(map(str, flavor.keys() - _KEYS))
    if unknown:
        return unknown[0]
    bundle = (flavor.get("artifacts") or {}).get("bundle") or {}
    expected = {
        "loader_module": flavor.get("loader_module") == "mlflow.pyfunc.loaders.code_model",
        # MLflow takes the file of this name in the model's folder.
        "model_code_path": Path(str(flavor.get("model_code_path"))).name == CODE.name,
        "code": flavor.get("code") is None,
        "env": flavor.get("env") == {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "artifacts": len(flavor.get("artifacts") or {}) == 1
        and bundle.get("path") == "artifacts/bundle",
    }
    return next((name for name, is_own in expected.items() if not is_own), "")


def _words(content: Any) -> Iterator[str]:
    """Yield every key and value."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from (*_words(key), *_words(value))
    elif isinstance(content, list):
        for value in content:
            yield from _words(value)
    else:
        yield str(content)
