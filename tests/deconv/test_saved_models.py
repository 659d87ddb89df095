"""Checkpoints and bundles: whole, the same after loading, and never code."""

import dataclasses
import hashlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from deconv.bundle import FILES, Bundle, read_bundle, write_bundle
from deconv.calibrate import Calibration
from deconv.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, start_from
from deconv.counts import RegionCounts
from deconv.errors import CheckpointError, InputError, MismatchError
from deconv.evaluate import draw_mixtures
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.predictor import NetworkMethod
from deconv.regions import RegionSet

FIXTURES = Path(__file__).parents[1] / "fixtures"
CONFIG = ModelConfig(hidden_size=16, intermediate_size=16, presence_threshold=0.4)
CALIBRATION = Calibration(0.9, -0.1, [0.4] * 6, [5.0, 20.0], [2.0, 2.5], [0.9, 0.9], [1.1, 1.0])


@pytest.fixture
def network(atlas):
    torch.manual_seed(0)
    net = TwoStageNetwork(CONFIG, atlas, read_effect=2.5)
    torch.nn.init.normal_(net.presence_head.weight)
    return net


@pytest.fixture
def checkpoint_file(tmp_path, network, atlas):
    save_checkpoint(tmp_path / "c.pt", Checkpoint(network, atlas, 3, {"epoch": 3}))
    return tmp_path / "c.pt"


@pytest.fixture
def bundle_folder(tmp_path, network, atlas):
    origin = {"run_id": "abc"}
    write_bundle(tmp_path / "bundle", Bundle(network, atlas, CALIBRATION, origin, "# a card\n"))
    return tmp_path / "bundle"


class Payload:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_loaded_models_predict_the_same(network, atlas, checkpoint_file, bundle_folder, unseen):
    mixtures = draw_mixtures(unseen, 10)
    expected = NetworkMethod(network, atlas).predict(mixtures)
    checkpoint, bundle = load_checkpoint(checkpoint_file), read_bundle(bundle_folder)
    assert (checkpoint.epoch, checkpoint.state) == (3, {"epoch": 3})
    assert bundle.provenance == {"run_id": "abc"}
    assert bundle.card == "# a card\n"
    assert bundle.calibration == CALIBRATION
    for loaded in (checkpoint, bundle):
        assert loaded.network.config == CONFIG
        assert loaded.atlas.content_hash == atlas.content_hash
        again = NetworkMethod(loaded.network, loaded.atlas).predict(mixtures)
        np.testing.assert_array_equal(again.presence, expected.presence)
        np.testing.assert_array_equal(again.proportions, expected.proportions)


def test_models_keep_what_is_known_of_the_cpgs(tmp_path, network, atlas):
    size = len(atlas.regions)
    first = 1 + 20 * np.arange(size)
    way = np.where(np.arange(size) % 2, "U", "M")
    known = {"start_cpg": first, "end_cpg": first + 3, "direction": way}
    regions = RegionSet.from_columns({**atlas.regions.columns(), **known}, "hg19", "u_fragment")
    atlas = replace(atlas, regions=regions)
    save_checkpoint(tmp_path / "c.pt", Checkpoint(network, atlas, 0))
    write_bundle(tmp_path / "bundle", Bundle(network, atlas))
    for loaded in (load_checkpoint(tmp_path / "c.pt"), read_bundle(tmp_path / "bundle")):
        assert loaded.atlas.content_hash == atlas.content_hash
        assert loaded.atlas.regions.columns().keys() == regions.columns().keys()
        np.testing.assert_array_equal(loaded.atlas.regions.start_cpg, first)
        np.testing.assert_array_equal(loaded.atlas.regions.direction, way)


@pytest.mark.parametrize("keep", [0, 10, 5000, -100])
def test_truncated_checkpoint_is_refused(checkpoint_file, keep):
    checkpoint_file.write_bytes(checkpoint_file.read_bytes()[:keep])
    with pytest.raises(
        (CheckpointError, InputError), match=r"c\.pt: (truncated|not a|the file is)"
    ):
        load_checkpoint(checkpoint_file)


def test_checkpoint_with_a_payload_is_refused_and_not_run(tmp_path):
    planted = tmp_path / "planted"
    for name, write in (
        ("torch.pt", lambda path: torch.save({"format_version": Payload(planted)}, path)),
        ("plain.pt", lambda path: path.write_bytes(pickle.dumps(Payload(planted), protocol=2))),
    ):
        write(tmp_path / name)
        with pytest.raises(CheckpointError, match="would run code"):
            load_checkpoint(tmp_path / name)
    assert not planted.exists()


def test_other_content_is_refused(tmp_path, checkpoint_file):
    torch.save({"format_version": 99}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="another format version; got 99; expected 2"):
        load_checkpoint(tmp_path / "new.pt")
    content = torch.load(checkpoint_file, weights_only=True)
    del content["weights"]["presence_head.bias"]
    torch.save(content, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match="a part is missing or damaged"):
        load_checkpoint(tmp_path / "part.pt")


@pytest.mark.parametrize("name", FILES)
def test_flipped_byte_in_a_bundle_is_noticed(bundle_folder, name):
    content = bytearray((bundle_folder / name).read_bytes())
    content[-3] ^= 1
    (bundle_folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: the file is not what was written"):
        read_bundle(bundle_folder)


def test_manifest_that_does_not_fit_is_refused(bundle_folder):
    manifest = bundle_folder / "manifest.json"
    content = json.loads(manifest.read_text())
    for change, message in (
        ({"format_version": 1}, "another format version"),
        ({"tissues": content["tissues"][1:]}, "do not fit together|not what was written"),
        ({"tissues": content["tissues"][::-1]}, "the atlas is not what was written"),
        ({"model": {"hidden_size": 8}}, "do not fit together"),
    ):
        manifest.write_text(json.dumps(content | change))
        with pytest.raises(CheckpointError, match=message):
            read_bundle(bundle_folder)
    manifest.write_text("{")
    with pytest.raises(CheckpointError, match="not a manifest"):
        read_bundle(bundle_folder)


def test_bundle_of_the_format_before_still_loads_and_predicts_the_same():
    bundle = read_bundle(FIXTURES / "bundle_v2")
    saved = np.load(FIXTURES / "bundle_v2_expected.npz")
    samples = pd.DataFrame(index=["a", "b", "c"])
    counts = RegionCounts(saved["methylated"], saved["coverage"], bundle.atlas.regions, samples)
    method = NetworkMethod(bundle.network, bundle.atlas, calibration=bundle.calibration)
    np.testing.assert_allclose(
        method.predict(counts).proportions, saved["proportions"], rtol=1e-4, atol=1e-6
    )
    assert bundle.card == ""


def test_regions_of_another_model_are_refused(tmp_path, bundle_folder, network, atlas):
    """Even with a manifest that was made to agree."""
    regions = atlas.regions
    moved = dataclasses.replace(regions, start=regions.start + 1, end=regions.end + 1)
    write_bundle(tmp_path / "other", Bundle(network, dataclasses.replace(atlas, regions=moved)))
    shutil.copy(tmp_path / "other" / "regions.tsv", bundle_folder)
    with pytest.raises(CheckpointError, match=r"regions\.tsv: the file is not what was written"):
        read_bundle(bundle_folder)
    manifest = bundle_folder / "manifest.json"
    content = json.loads(manifest.read_text())
    swapped = hashlib.sha256((bundle_folder / "regions.tsv").read_bytes()).hexdigest()
    content["sha256"]["regions.tsv"] = swapped
    manifest.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="the atlas is not what was written"):
        read_bundle(bundle_folder)


def test_anything_else_in_a_bundle_is_refused_and_not_run(tmp_path, bundle_folder):
    planted = tmp_path / "planted"
    (bundle_folder / "extra.pkl").write_bytes(pickle.dumps(Payload(planted)))
    with pytest.raises(CheckpointError, match=r"does not belong there; got extra\.pkl"):
        read_bundle(bundle_folder)
    (bundle_folder / "extra.pkl").replace(bundle_folder / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: the file is not what"):
        read_bundle(bundle_folder)
    manifest = bundle_folder / "manifest.json"
    content = json.loads(manifest.read_text())
    payload = (bundle_folder / "weights.safetensors").read_bytes()
    content["sha256"]["weights.safetensors"] = hashlib.sha256(payload).hexdigest()
    manifest.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="do not fit together"):
        read_bundle(bundle_folder)
    assert not planted.exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/weights.safetensors"])
def test_path_that_leaves_the_folder_is_refused(bundle_folder, name):
    manifest = bundle_folder / "manifest.json"
    content = json.loads(manifest.read_text())
    content["sha256"][name] = content["sha256"].pop("weights.safetensors")
    manifest.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="the manifest lists other files"):
        read_bundle(bundle_folder)


def test_link_out_of_the_folder_is_refused(tmp_path, bundle_folder):
    weights = bundle_folder / "weights.safetensors"
    weights.replace(tmp_path / "outside.safetensors")
    weights.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: the file is not what"):
        read_bundle(bundle_folder)


def test_bundle_is_never_overwritten(bundle_folder, network, atlas):
    with pytest.raises(InputError, match="there already"):
        write_bundle(bundle_folder, Bundle(network, atlas))


def test_start_from_takes_the_weights_of_the_same_kind_only(network, atlas, checkpoint_file):
    fresh = TwoStageNetwork(CONFIG, atlas, read_effect=2.5)
    start_from(fresh, atlas, load_checkpoint(checkpoint_file), "c.pt")
    assert torch.equal(fresh.presence_head.weight, network.presence_head.weight)
    larger = TwoStageNetwork(CONFIG.model_copy(update={"hidden_size": 17}), atlas, read_effect=2.5)
    with pytest.raises(MismatchError, match=r"c\.pt: the checkpoint is of another network"):
        start_from(larger, atlas, load_checkpoint(checkpoint_file), "c.pt")
