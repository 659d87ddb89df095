"""Bundles that somebody made to harm: refused with the reason, nothing executed, little read.

Whoever makes a bundle can also make its hashes agree. So each attack comes with a manifest that
lists the hashes of the changed files.
"""

import hashlib
import io
import json
import os
import pickle
import resource
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from deconv.bundle import FILES, Bundle, read_bundle, write_bundle
from deconv.errors import CheckpointError, InputError
from deconv.model import ModelConfig, TwoStageNetwork

WEIGHTS, ATLAS, REGIONS, CARD = FILES


@pytest.fixture
def bundle(tmp_path, atlas):
    torch.manual_seed(0)
    config = ModelConfig(hidden_size=16, intermediate_size=16)
    network = TwoStageNetwork(config, atlas, read_effect=2.5)
    write_bundle(tmp_path / "bundle", Bundle(network, atlas, None, {"run_id": "abc"}, "# card\n"))
    return tmp_path / "bundle"


def forge(bundle, **changes):
    """Make the manifest agree with the files, and change it."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    for name in FILES:
        if (bundle / name).is_file():
            content = (bundle / name).read_bytes()
            manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))


def forge_atlas(bundle, change, tissues=None):
    """Change arrays of the atlas, and make even its own hash agree."""
    arrays = change(load_arrays(bundle / ATLAS))
    save_arrays(arrays, bundle / ATLAS)
    manifest = json.loads((bundle / "manifest.json").read_text())
    tissues = manifest["tissues"] if tissues is None else tissues
    regions = read_regions(bundle)
    digest = hashlib.sha256("\n".join((regions.content_hash, *tissues)).encode())
    for name in ("mean", "rho", "profile"):
        digest.update(np.ascontiguousarray(arrays[name], dtype="<f4").tobytes())
    digest.update(np.ascontiguousarray(arrays["n_donors"], dtype="<i8").tobytes())
    forge(bundle, tissues=tissues, atlas_hash=digest.hexdigest())


def read_regions(bundle):
    import pandas as pd

    from deconv.regions import RegionSet

    manifest = json.loads((bundle / "manifest.json").read_text())
    table = pd.read_csv(bundle / REGIONS, sep="\t", dtype={"chrom": str})
    return RegionSet.from_columns(table, manifest["build"], manifest["feature"])


def test_forged_manifest_of_an_unchanged_bundle_is_read(bundle, atlas):
    """So that what is refused below is refused for what was changed."""
    forge(bundle)
    forge_atlas(bundle, lambda arrays: arrays)
    assert read_bundle(bundle).atlas.content_hash == atlas.content_hash


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_link_and_pipe_are_not_followed(tmp_path, bundle, name):
    path = bundle / name
    path.replace(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match="the file is not what was written; got a link"):
        read_bundle(bundle)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a file"):
        read_bundle(bundle)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="not a file"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_enormous_file_is_refused_without_reading_it(bundle, name):
    with (bundle / name).open("r+b") as file:
        file.truncate(2**43)  # 8 TiB of nothing, which take no space
    with pytest.raises(CheckpointError, match="the file is too large; got 8796093022208 bytes"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 200_000, "recursion"),
        ('{"format_version": [3]}', "another format version"),
        ('{"format_version": 3}', "tissues: Field required"),
        ("[]", "Input should be an object"),
        (b"\xff\xfe{}", "manifest"),
        ("null", "Input should be an object"),
    ],
)
def test_manifest_that_is_none_is_refused(bundle, text, reason):
    content = text if isinstance(text, bytes) else text.encode()
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tissues": ["A"] * 6}, "a tissue occurs twice"),
        ({"tissues": ["A", "B", 3, "D", "E", "F"]}, r"tissues\.2: Input should be a valid string"),
        ({"tissues": "ABCDEF"}, "tissues: Input should be a valid array"),
        ({"tissues": [str(i) for i in range(5000)]}, "at most 1000 items"),
        ({"provenance": None}, "provenance"),
        ({"provenance": {"donors": {"test": "all"}}}, r"donors\.test"),
        ({"provenance": {"sha256": []}}, "sha256"),
        ({"feature": "anything"}, "feature: Input should be 'cpg' or 'u_fragment'"),
        ({"read_effect": float("nan")}, "read_effect"),
        ({"read_effect": "2.5"}, "read_effect"),
        ({"atlas_hash": None}, "atlas_hash"),
        ({"loader": "os.system"}, "loader: Extra inputs are not permitted"),
        ({"model": {"hidden_size": 16, "intermediate_size": 16, "code": "x"}}, "model.code"),
        ({"model": {"hidden_size": 2**40, "intermediate_size": 16}}, "of a smaller network"),
        ({"model": {"hidden_size": 16, "intermediate_size": 2**40}}, "of a smaller network"),
        ({"calibration": {"slope": 1}}, "not a calibration"),
        ({"calibration": [1]}, "calibration"),
    ],
)  # fmt: skip
def test_manifest_that_lies_is_refused(bundle, changes, reason):
    forge(bundle, **changes)
    with pytest.raises(CheckpointError, match=reason):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a | {"mean": a["mean"][:-1]}, "mean of the atlas is another array"),
        (lambda a: a | {"mean": a["mean"].T.copy()}, "mean of the atlas is another array"),
        (lambda a: a | {"n_donors": a["n_donors"][:-1]}, "n_donors of the atlas is another array"),
        (lambda a: a | {"rho": a["rho"].astype(np.int32)}, "rho of the atlas is another array"),
        (lambda a: a | {"profile": a["profile"] * np.nan}, "profile of the atlas has values"),
        (lambda a: a | {"mean": a["mean"] + 1}, "mean of the atlas has values"),
        (lambda a: a | {"rho": a["rho"] - 9}, "rho of the atlas has values"),
        (lambda a: a | {"extra": a["rho"]}, "the atlas has other arrays"),
    ],
)  # fmt: skip
def test_atlas_that_is_none_is_refused_though_all_hashes_agree(bundle, change, reason):
    forge_atlas(bundle, change)
    with pytest.raises(CheckpointError, match=reason):
        read_bundle(bundle)


def test_tissue_list_of_another_length_is_refused_though_all_hashes_agree(bundle, atlas):
    for tissues in ([*atlas.tissues, "Spleen"], list(atlas.tissues[:-1])):
        forge_atlas(bundle, lambda arrays: arrays, tissues=tissues)
        with pytest.raises(CheckpointError, match="of the atlas is another array"):
            read_bundle(bundle)


def test_weights_that_are_none_are_refused(bundle):
    weights = load_file(bundle / WEIGHTS)
    name = "presence_head.weight"
    for changed, reason in (
        (weights | {name: weights[name] * np.nan}, f"{name}: weights that are no numbers"),
        (weights | {name: weights[name].to(torch.int32)}, f"{name}: weights that are no numbers"),
        (weights | {"another": weights[name].clone()}, "Unexpected key"),
        ({k: v for k, v in weights.items() if k != name}, "Missing key"),
        (weights | {name: weights[name][:-1].clone()}, "size mismatch"),
    ):
        save_file(changed, bundle / WEIGHTS)
        forge(bundle)
        with pytest.raises(CheckpointError, match=reason):
            read_bundle(bundle)


def tensors(header, data=b"\0" * 8, size=None):
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


FLOATS = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize("name", [WEIGHTS, ATLAS])
@pytest.mark.parametrize(
    "content",
    [
        tensors({}, size=2**63),  # a header larger than any file
        tensors({}, size=100_000_000),
        tensors(b'{"mean": ' + b"[" * 100_000),
        tensors({"mean": FLOATS | {"shape": [2**40, 2**40]}}),
        tensors({"mean": FLOATS | {"data_offsets": [0, 2**50]}}),
        tensors({"mean": FLOATS | {"data_offsets": [8, 0]}}),
        tensors({"mean": FLOATS | {"shape": [-2]}}),
        tensors({"mean": FLOATS | {"dtype": "object"}}),
        tensors({"mean": FLOATS, "rho": FLOATS}),  # the same bytes twice
        tensors(b'{"mean": %b, "mean": %b}' % ((json.dumps(FLOATS).encode(),) * 2), b"\0" * 16),
        b"",
        b"\x80\x04",
    ],
    ids=range(12),
)
def test_header_that_lies_is_refused(bundle, name, content):
    (bundle / name).write_bytes(content)
    forge(bundle)
    with pytest.raises((CheckpointError, InputError), match=r"do not fit together|is empty"):
        read_bundle(bundle)


class Payload:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def numpy_archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_planted_payload_is_never_executed(tmp_path, bundle, name):
    planted = tmp_path / "planted"
    for write in (
        lambda path: path.write_bytes(pickle.dumps(Payload(planted))),
        lambda path: torch.save({"mean": Payload(planted)}, path),
        lambda path: path.write_bytes(
            numpy_archive(mean=np.array(Payload(planted), dtype=object))
        ),
    ):
        write(bundle / name)
        forge(bundle)
        with pytest.raises(CheckpointError, match="do not fit together"):
            read_bundle(bundle)
    assert not planted.exists()


def test_region_table_that_is_none_is_refused(bundle, atlas):
    rows = (bundle / REGIONS).read_text().splitlines(keepends=True)
    for lines in (
        rows[:-1],  # one less
        [*rows, rows[-1]],  # one twice
        [rows[0], *rows[:0:-1]],  # in another order
        [rows[0].replace("start", "begin"), *rows[1:]],
        [rows[0], "chr1\t9\t3\n", *rows[2:]],
        [rows[0], "chr1\tx\ty\n", *rows[2:]],
    ):
        (bundle / REGIONS).write_text("".join(lines))
        forge(bundle)
        with pytest.raises(CheckpointError, match=r"do not fit together|atlas is not what was"):
            read_bundle(bundle)


def test_refusals_take_little_memory(bundle):
    """A manifest of a few bytes that asks for terabytes is refused before they are taken."""
    forge(bundle, model={"hidden_size": 400_000, "intermediate_size": 400_000})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="of a smaller network"):
        read_bundle(bundle)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_card_is_text(bundle):
    (bundle / CARD).write_bytes(b"\xff\xfe\x00")
    forge(bundle)
    with pytest.raises(CheckpointError, match="do not fit together"):
        read_bundle(bundle)


def test_bundle_says_where_it_is_from_even_without_a_server(tmp_path, bundle):
    read = read_bundle(bundle)
    write_bundle(tmp_path / "other", replace(read, provenance={"run_id": None}))
    assert read_bundle(tmp_path / "other").provenance == {"run_id": None}
