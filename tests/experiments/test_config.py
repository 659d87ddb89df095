"""Configurations: every key is known, every value checked, nothing ignored."""

import pytest

from deconv.errors import ConfigError
from experiments.config import load_config, packaged_configs

ORIGINAL_SHAPE = """
data: {path: atlas.h5ad}
model: {n_regions: 51089, hidden_size: 512, num_classes: 22, dropout: 0.1, intermediate_size: 2048,
  pretrained_checkpoint: null, use_two_stage: true, presence_threshold: 0.5,
  sparsity_regularization: true}
training: {num_epochs: 30, batch_size: 4, gradient_accumulation_steps: 8, learning_rate: 5e-4,
  weight_decay: 0.01, warmup_ratio: 0.1, num_workers: 4, validation_frequency: 1,
  pure_sample_ratio: 0.2, mixtures_per_epoch: 10000}
optimizer: {name: adamw, betas: [0.9, 0.999]}
scheduler: {name: cosine}
loss: {mse_weight: 1.0, presence_weight: 0.5, sparsity_weight: 0.1, presence_threshold: 0.01}
random_seed: 42
output: {directory: runs}
"""


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write_text


def test_file_of_the_original_shape_loads(write):
    config = load_config(write(ORIGINAL_SHAPE))
    assert config.training.learning_rate == 5e-4  # which YAML reads as text
    assert config.loss.sparsity_weight == 0.1
    assert config.model.n_regions == 51089


@pytest.mark.parametrize("name", packaged_configs())
def test_packaged_configurations_load(name):
    assert load_config(name).random_seed == 0


def test_all_phases_are_there():
    assert packaged_configs() == [
        "accuracy", "demo", "metdecode", "phase1_two_tissue", "phase2_sparse", "phase3_cfdna",
    ]  # fmt: skip


def test_switched_off_sparsity_means_weight_zero(write):
    config = load_config(write("model: {sparsity_regularization: false}"))
    assert config.loss.sparsity_weight == 0


SWITCH = "sparsity_regularization: true"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ORIGINAL_SHAPE.replace(SWITCH, "sparsity_regularization: 0.01"),
            r"sparsity_regularization \(0.01\) is no longer a weight.*loss.sparsity_weight",
        ),
        (
            ORIGINAL_SHAPE.replace(SWITCH, "sparsity_regularization: false"),
            "sparsity_regularization is false, but loss.sparsity_weight is 0.1",
        ),
        ("loss: {presense_weight: 2}", "unknown key loss.presense_weight; expected presence_w"),
        (
            "data: {mixtures: {desings: {}}}",
            "unknown key data.mixtures.desings .*expected designs",
        ),
        ("lossy: {}", r"unknown key lossy; expected loss\?"),
        (
            "data: {dilutions: {file: a}}",
            r"unknown key data\.dilutions\.file \(and 3 more\); expected files\?",
        ),
        ("loss: {mse_weight: 1}\nloss: {}", "not YAML; got the key loss is there twice"),
        ("loss: {presence_weight: -1}", "loss.presence_weight: .*equal to 0; got -1"),
        ("loss: {presence_weight: .nan}", "loss.presence_weight: .*finite number"),
        ("training: {num_epochs: many}", "training.num_epochs: .*integer.*got 'many'"),
        ("training: {num_epochs: 2.5}", "training.num_epochs: .*got 2.5"),
        ("data: {mixtures: {designs: {}}}", "weights of the designs are not usable"),
        ("data: {mixtures: {designs: {pure: 1}, depth: [30, 5]}}", "depth is not a range above 0"),
        (
            "data: {mixtures: {designs: {pure: 1}, missing_regions: [0, 1]}}",
            "missing_regions is not",
        ),
        ("data: {dilutions: {files: a, percent_in_name: '(', tissues: []}}", "not a regular expr"),
        (
            "data: {dilutions: {files: a, percent_in_name: 'Tu', tissues: []}}",
            "0 groups, 1 is needed",
        ),
        ("- a\n- b", "no sections"),
        ("a: [", "not YAML"),
        ("", "no sections"),
    ],
)
def test_wrong_configurations_are_refused(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_unknown_name_lists_the_known():
    with pytest.raises(ConfigError, match=r"no such configuration; got demmo; .*demo, metdecode"):
        load_config("demmo")


def test_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a readable configuration"):
        load_config(tmp_path / "c.yaml")


def test_overrides_apply_in_order_and_are_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(
        "demo", overrides=["loss.presence_weight=2", "loss.presence_weight=5"], data="x.h5ad"
    )
    assert config.loss.presence_weight == 5
    assert config.data.path == str(tmp_path / "x.h5ad")  # it holds from other folders, too
    with pytest.raises(ConfigError, match=r"unknown key loss\.weight"):
        load_config("demo", overrides=["loss.weight=2"])
    with pytest.raises(ConfigError, match=r"not a setting; got loss\.weight"):
        load_config("demo", overrides=["loss.weight"])


def test_pure_samples_take_their_share_of_the_designs():
    config = load_config(
        "demo",
        overrides=[
            "training.pure_sample_ratio=0.2",
            "data.mixtures.designs={several: 3, pure: 1}",
        ],
    )
    assert config.designs().designs == pytest.approx({"several": 0.6, "pure": 0.4})
    assert load_config("demo", overrides=["training.pure_sample_ratio=0"]).designs().designs == {
        "several": 1.0
    }


def test_flat_settings_have_dotted_names():
    flat = load_config("demo").flat()
    assert flat["loss.presence_weight"] == 1.0
    assert flat["data.mixtures.designs.several"] == 1.0
