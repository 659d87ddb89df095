"""The configuration of a run: one YAML file, read once, checked whole."""

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PositiveInt, field_validator, model_validator

from deconv.configuration import Section, parse_yaml, validate
from deconv.donors import AssumedDonors
from deconv.errors import ConfigError
from deconv.losses import LossConfig
from deconv.mixtures import MixtureConfig
from deconv.model import ModelConfig
from deconv.regions import UNKNOWN_BUILD
from deconv.schedule import OptimizerConfig, SchedulerConfig
from deconv.train import TrainingConfig
from experiments.alerts import AlertConfig

PATHS = ("data.path", "data.tissue_table", "model.pretrained_checkpoint")
"""Settings that name files; `load_config` makes them hold from other folders, too."""


class DilutionConfig(Section):
    """Real mixtures of known total fraction of some tissues, to predict after training.

    ``files`` is a pattern in ``data.path``'s folder; ``percent_in_name`` a regular expression
    whose first group is the percentage in a sample's name.
    """

    files: str
    percent_in_name: str
    tissues: tuple[str, ...]

    @field_validator("percent_in_name")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            n_groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if n_groups != 1:
            raise ValueError(f"{n_groups} groups, 1 is needed: the percentage")
        return pattern


class DataConfig(Section):
    """Pure samples, how they are split, and the mixtures made of them.

    ``path`` is usually given on the command line (``--data``): an ``.h5ad`` or counts table,
    or a folder that has ``reference`` in it. An ``.h5ad`` whose profiles exceed
    ``profile_megabytes`` is streamed while training. An atlas of published means has no
    donors; those of ``assume`` are drawn.
    """

    path: str | None = None
    reference: str | None = None
    tissue_table: str | None = None
    assume: AssumedDonors | None = None
    genome_build: str = UNKNOWN_BUILD
    validation_donors: PositiveInt = 1
    test_donors: int = Field(1, ge=0)
    validation_mixtures: PositiveInt = 500
    test_mixtures: PositiveInt = 1000
    profile_megabytes: float = Field(1000.0, gt=0)
    mixtures: MixtureConfig = MixtureConfig(designs={"several": 1.0})
    dilutions: DilutionConfig | None = None


class OutputConfig(Section):
    """Where runs are kept and how they are named in MLflow.

    ``study`` is the name of the study that the run belongs to; ``wait_for_server`` how many
    seconds the end of a run waits for a tracking server that is away; ``parent_run`` the MLflow
    id of the run that this one is shown under.
    """

    directory: str = "runs"
    experiment: str = "sparse-deconvolution"
    study: str | None = None
    tensorboard: bool = False
    wait_for_server: float = Field(10.0, ge=0)
    parent_run: str | None = None
    alerts: AlertConfig = AlertConfig()


class RunConfig(Section):
    """Everything a run depends on."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    loss: LossConfig = LossConfig()
    output: OutputConfig = OutputConfig()
    random_seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _translate(cls, raw: Any) -> Any:
        """Give the one key of the original shape that has no section its meaning."""
        if not isinstance(raw, dict) or not isinstance(raw.get("model"), dict):
            return raw
        model = dict(raw["model"])
        if "sparsity_regularization" not in model:
            return raw
        wanted = model.pop("sparsity_regularization")
        if not isinstance(wanted, bool):
            raise ValueError(
                f"model.sparsity_regularization ({wanted}) is no longer a weight: "
                "say true or false there and set loss.sparsity_weight"
            )
        loss = dict(raw.get("loss") or {})
        if not wanted:
            if float(loss.get("sparsity_weight", 0)) > 0:
                raise ValueError(
                    "model.sparsity_regularization is false, but loss.sparsity_weight is "
                    f"{loss['sparsity_weight']}: set it to 0 or say true"
                )
            loss["sparsity_weight"] = 0.0
        return {**raw, "model": model, "loss": loss}

    def designs(self) -> MixtureConfig:
        """Return the mixture settings with the share of pure samples among the designs."""
        pure = self.training.pure_sample_ratio
        weights = self.data.mixtures.designs
        total = sum(weights.values()) or 1.0
        mixed = {name: (1 - pure) * weight / total for name, weight in weights.items()}
        if pure:
            mixed["pure"] = mixed.get("pure", 0.0) + pure
        return MixtureConfig.model_validate({**self.data.mixtures.model_dump(), "designs": mixed})

    def flat(self) -> dict[str, Any]:
        """Return every setting by its dotted name."""
        return dict(_flatten("", self.model_dump(mode="json")))


def load_config(
    source: str | Path, *, overrides: Sequence[str] = (), data: str | None = None
) -> RunConfig:
    """Read a configuration.

    Parameters
    ----------
    source
        A YAML file, or the name of one that comes with the package, such as ``demo``.
    overrides
        ``section.key=value`` settings, applied in order.
    data
        Value of ``data.path``.

    Raises
    ------
    ConfigError
        If the file, a key or a value is wrong.
    """
    where, text = _read(str(source))
    try:
        raw = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError("not YAML", where=where, got=str(error).replace("\n", " ")) from error
    if not isinstance(raw, dict):
        raise ConfigError("no sections", where=where, expected="data:, model:, training: ...")
    if data is not None:
        overrides = [*overrides, f"data.path={data}"]
    for override in overrides:
        _apply(raw, override)
    for setting in PATHS:
        section, _, key = setting.partition(".")
        settings = raw.get(section)
        if isinstance(settings, dict) and isinstance(settings.get(key), str):
            settings[key] = full_path(settings[key])
    return validate_config(raw, where)


def full_path(path: str) -> str:
    """Return a path as it holds from any folder; a model's URI is one already."""
    return path if ":/" in path else str(Path(path).absolute())


def with_data(config: RunConfig, path: str) -> RunConfig:
    """Return a configuration whose data lie elsewhere."""
    data = {**config.data.model_dump(), "path": full_path(path)}
    return validate_config({**config.model_dump(), "data": data}, "data.path")


def validate_config(raw: dict[str, Any], where: object) -> RunConfig:
    """Check a whole configuration; its errors name the key."""
    return validate(RunConfig, raw, where)


def packaged_configs() -> list[str]:
    """Return the names of the configurations that come with the package."""
    folder = resources.files("experiments") / "configs"
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def _read(source: str) -> tuple[str, str]:
    if source in packaged_configs():
        file = resources.files("experiments") / "configs" / f"{source}.yaml"
        return f"configuration {source}", file.read_text()
    path = Path(source)
    try:
        return source, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such configuration" if not path.exists() else "not a readable configuration"
        raise ConfigError(
            reason, got=source,
            expected=f"a YAML file, or one of {', '.join(packaged_configs())}",
        ) from error  # fmt: skip


def _apply(raw: dict[str, Any], override: str) -> None:
    name, separator, value = override.partition("=")
    *sections, key = name.strip().split(".")
    if not separator or not key:
        raise ConfigError("not a setting", got=override, expected="section.key=value")
    target = raw
    for section in sections:
        if not isinstance(target.get(section), dict):
            target[section] = {}
        target = target[section]
    try:
        target[key] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError("not a value", where=f"--set {name}", got=value) from error


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    pairs = []
    for key, inner in value.items():
        pairs += _flatten(f"{prefix}.{key}" if prefix else key, inner)
    return pairs
