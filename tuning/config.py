"""The configuration of a study: one YAML file, read once, checked whole."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, PositiveInt, field_validator, model_validator

from deconv.configuration import Section
from tuning.space import DEFAULT_SPACE, check_space

Read = TypeVar("Read", bound=Section)
Bounds = float | tuple[float, float] | None


class SamplerConfig(Section):
    """What proposes trials: multivariate TPE with constant liar, a Gaussian process, or chance.

    The first ``startup_trials`` are random. A trial's proposal is seeded by ``seed`` and its
    number, so that it does not matter which worker asks.
    """

    kind: Literal["tpe", "gp", "random"] = "tpe"
    seed: int = Field(0, ge=0)
    startup_trials: PositiveInt = 10


class PrunerConfig(Section):
    """What ends hopeless trials, at their validation epochs, from ``min_epochs`` on.

    Of the trials of a rung one in ``reduction`` goes on.
    """

    kind: Literal["hyperband", "halving", "none"] = "hyperband"
    min_epochs: PositiveInt = 1
    reduction: int = Field(4, ge=2)


class ObjectiveConfig(Section):
    """What is minimised, on validation mixtures at the trial's best threshold.

    ``single``: ``mae_weight`` x MAE + (1 - F1 of presence). ``two``: MAE and spurious mass, under
    the success criteria of `tuning.objective.CRITERIA`.
    """

    kind: Literal["single", "two"] = "single"
    mae_weight: float = Field(10.0, ge=0)


class BudgetConfig(Section):
    """No trial is started beyond any of these.

    ``hours`` count from the first trial; ``gpu_hours`` are those that trials held a GPU.
    """

    trials: PositiveInt = 32
    hours: float | None = Field(None, gt=0)
    gpu_hours: float | None = Field(None, gt=0)


class LocalConfig(Section):
    """Processes on this machine."""

    kind: Literal["local"] = "local"
    processes: PositiveInt = 1
    threads: PositiveInt | None = None
    device: str = "auto"


class SlurmConfig(Section):
    """A job array: ``jobs`` tasks, at most ``at_once`` of them at a time.

    Each runs ``processes`` workers on its GPU. ``profile`` is a YAML file of `SlurmProfile`
    or the name of one that comes with the package.
    """

    kind: Literal["slurm"] = "slurm"
    profile: str = "gpua100"
    jobs: PositiveInt = 4
    at_once: PositiveInt | None = None
    processes: PositiveInt = 1
    threads: PositiveInt | None = None
    device: str = "auto"


class SlurmProfile(Section):
    """What a job asks SLURM for; ``setup`` are shell lines before the work, such as modules.

    ``signal_seconds`` before the time limit the work is asked to stop, and is requeued.
    """

    partition: str | None = None
    gres: str | None = None
    cpus_per_task: PositiveInt = 1
    mem: str | None = None
    time: str = "24:00:00"
    account: str | None = None
    setup: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    signal_seconds: PositiveInt = 120


class FinishConfig(Section):
    """The end: so many of the best, each trained with so many seeds, with ``set`` on top."""

    top: PositiveInt = 1
    seeds: PositiveInt = 3
    set: tuple[str, ...] = ()


class StudyConfig(Section):
    """Everything a study depends on.

    ``base`` is the run configuration that trials vary, ``set`` changes it for all of them.
    ``space`` names what is tuned: nothing after the name is the range of `tuning.space`,
    ``[low, high]`` a part of it, a number holds it there. ``storage`` is ``journal``, a file in
    the study's folder, or a PostgreSQL URL. A worker that is silent for ``lease_seconds`` is dead.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    base: str
    data: str | None = None
    set: tuple[str, ...] = ()
    space: dict[str, Bounds] = Field(default_factory=lambda: dict.fromkeys(DEFAULT_SPACE))
    sampler: SamplerConfig = SamplerConfig()
    pruner: PrunerConfig = PrunerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    budget: BudgetConfig = BudgetConfig()
    where: Annotated[LocalConfig | SlurmConfig, Field(discriminator="kind")] = LocalConfig()
    storage: str = "journal"
    directory: str = "studies"
    lease_seconds: float = Field(120.0, gt=0)
    finish: FinishConfig = FinishConfig()

    @field_validator("space")
    @classmethod
    def _fits_the_code(cls, space: dict[str, Bounds]) -> dict[str, Bounds]:
        check_space(space)
        return space

    @field_validator("storage")
    @classmethod
    def _is_safe(cls, storage: str) -> str:
        if storage != "journal" and not storage.startswith("postgresql"):
            raise ValueError("journal, or postgresql://... (SQLite is not safe for many workers)")
        return storage

    @model_validator(mode="after")
    def _prunes_by_one(self) -> "StudyConfig":
        if self.objective.kind == "two" and self.pruner.kind != "none":
            raise ValueError("two objectives cannot be pruned by: set pruner.kind to none")
        return self

    @property
    def folder(self) -> Path:
        """Folder of the study."""
        return Path(self.directory) / self.name
