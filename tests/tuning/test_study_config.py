"""A study's file is read whole, and wrong ones are refused by name."""

from pathlib import Path

import pytest
import yaml
from optuna.distributions import FloatDistribution, IntDistribution

from deconv.errors import ConfigError
from experiments.config import load_config
from tuning.reading import load_profile, load_study_config
from tuning.space import DIMENSIONS, search_space, settings, thresholds

CONFIGS = Path(__file__).parents[2] / "tuning" / "configs"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sampler": {"kind": "tpe", "sed": 1}}, "unknown key sampler.sed"),
        ({"space": {"precision": [1, 2]}}, "precision cannot be tuned; these can: presence_wei"),
        ({"space": {"presence_weight": [0.01, 5]}}, r"\[0.01, 5\] is no part of \[0.1, 10\]"),
        ({"space": {"dropout": [0.4, 0.2]}}, "is no part of"),
        ({"space": {"threshold": [0.2, 0.8]}}, "nothing to sample"),
        ({"storage": "sqlite:///s.db"}, "SQLite is not safe"),
        ({"budget": {"trials": 0}}, "budget.trials"),
        ({"name": "a b"}, "name: String should match"),
        ({"where": {"kind": "cloud"}}, "where"),
        ({"objective": {"kind": "two"}, "pruner": {}}, "two objectives cannot be pruned by"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, changed, message):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"name": "s", "base": "demo", **changed}))
    with pytest.raises(ConfigError, match=message) as caught:
        load_study_config(file)
    assert str(file) in str(caught.value)


def test_file_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not a readable file"):
        load_study_config(tmp_path / "none.yaml")
    for text, message in (("a: [", "not YAML"), ("[]", "no settings")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_study_config(tmp_path / "bad.yaml")


def test_packaged_study_and_profile():
    config = load_study_config(CONFIGS / "study_weights.yaml")
    assert set(config.space) == {"presence_weight", "sparsity_weight", "threshold"}
    load_config(config.base, overrides=config.set)
    profile = load_profile(config.where.profile)
    assert (profile.partition, profile.gres) == ("gpua100", "gpu:a100:1")
    assert (profile.cpus_per_task, profile.mem, profile.time) == (12, "250G", "24:00:00")
    with pytest.raises(ConfigError, match=r"no such SLURM profile.*gpua100"):
        load_profile("gpuh100")


def test_every_dimension_is_a_setting_of_a_run():
    for dimension in DIMENSIONS.values():
        for bound in (dimension.low, dimension.high):
            value = round(bound) if dimension.whole else bound
            if dimension.key.endswith("threshold"):
                value = 0.5
            config = load_config("demo", overrides=[f"{dimension.key}={value!r}"])
            assert config.flat()[dimension.key] == value


def test_yaml_narrows_the_space_of_the_code():
    space = {
        "presence_weight": None, "sparsity_weight": (1e-3, 1e-2), "dropout": 0.2,
        "hidden_size": (64, 512), "threshold": (0.4, 0.6),
    }  # fmt: skip
    found = search_space(space)
    assert "threshold" not in found
    assert found["presence_weight"] == FloatDistribution(0.1, 10, log=True)
    assert found["sparsity_weight"] == FloatDistribution(1e-3, 1e-2, log=True)
    assert found["dropout"].single()
    assert found["hidden_size"] == IntDistribution(64, 512, log=True)
    scored = thresholds(space)
    assert scored[0] == 0.4
    assert scored[-1] == 0.6
    assert len(scored) == 21
    assert settings({"dropout": 0.2, "threshold": 0.41}) == [
        "model.presence_threshold=0.41", "model.dropout=0.2",
    ]  # fmt: skip
