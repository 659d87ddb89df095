"""Damaged sheets, maps and atlases: an error with the file's name, or the right result.

Sheets, maps of tissues and this library's tables are damaged as in `test_fuzz_readers.py`, 10,000
of each, and a plain reading says what is right. Tables of means and of arrays, which
`test_fuzz_references.py` reads as often, get junk here that is made for numbers, 150 of each: a
case of that kind takes 5 to 10 ms.
"""

import gzip
import json

import numpy as np
import pytest
import yaml
from damaged_files import accepted
from damaged_files import fuzz as fuzz_files
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from naive_readers import naive_sheet, naive_table

from deconv.errors import DeconvError
from deconv.formats.atlases import open_atlas
from deconv.inputs import is_sheet, read_sheet
from deconv.reference import read_tissue_map

N_CASES = 150
SHEET = b"sample,path,donor\na,one.tsv,p\nb,one.tsv,q\n"
MEANS = (
    b"chr\tstart\tend\tstartCpG\tendCpG\tA\tB\n"
    b"chr1\t10\t20\t3\t5\t0.1\tNA\nchrX\t5\t9\t8\t9\t1\t0\n"
)
OURS = (
    b'#deconv-atlas {"version": 1, "build": "hg38", "feature": "cpg", "samples": [{"sample": "x",'
    b' "tissue": "A", "donor": "d"}, {"sample": "y", "tissue": "B", "donor": "e"}]}\n'
    b"chrom\tstart\tend\tx_METH\tx_DEPTH\ty_METH\ty_DEPTH\nchr1\t1\t5\t2\t3\t0\t0\n"
)
ARRAY = b"CpGs,A,B\ncg00000029,0.5,0.25\ncg00000108,,1\n"
MAP = b"merge:\n  N: [A, B]\ndrop: [C]\n"


@st.composite
def damaged(draw, content):
    """A file with parts cut, repeated, or replaced by what files are broken with."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 12, len(data))))
        odd = st.sampled_from(
            [b"", b"\t", b",", b"\n", b"\r\n", b'"', b"\0", b"nan", b"-1", b"1e400", b"NA",
             b"\xff", b"inf", b"99999999999999999999", b"{", b"[]", b": ", b"\xef\xbb\xbf",
             b"null"]
        )  # fmt: skip
        data[start:end] = draw(odd | st.binary(max_size=6))
    return bytes(data)


def fuzz(content):
    def decorate(test):
        many = settings(
            max_examples=N_CASES, deadline=None, derandomize=True, database=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )  # fmt: skip
        return many(given(data=damaged(content))(test))

    return decorate


def read_or_refuse(path, read):
    """Return what was read, None if it was refused with the file's name."""
    try:
        return read()
    except DeconvError as error:
        message = str(error)
    assert path.name in message
    return None


@pytest.mark.parametrize(
    ("name", "content"),
    [("means.tsv", MEANS), ("ours.tsv", OURS), ("array.csv", ARRAY)],
    ids=["means", "ours", "array"],
)
def test_whole_atlases_are_opened(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    build = "hg38" if name != "array.csv" else "unknown"
    assert open_atlas(tmp_path / name, build=build).tissues == ("A", "B")


def _is_refused_or_sound(path, data, build):
    path.write_bytes(data)
    reference = read_or_refuse(path, lambda: open_atlas(path, build=build))
    if reference is not None and len(reference.tissues) > 1:
        mean = reference.atlas.mean
        assert np.isfinite(mean).all()
        assert ((mean > 0) & (mean < 1)).all()


@fuzz(MEANS)
def test_damaged_means(tmp_path, data):
    _is_refused_or_sound(tmp_path / "means.tsv", data, "hg38")


@fuzz(ARRAY)
def test_damaged_array_atlases(tmp_path, data):
    _is_refused_or_sound(tmp_path / "array.csv", data, "unknown")


def _plain(path, packed):
    raw = path.read_bytes()
    note(f"{packed}: {raw!r}")
    assert packed not in ("cut", "junk")
    return gzip.decompress(raw) if packed != "plain" else raw


def test_damaged_tables_of_this_library():
    def check(path, packed):
        reference = accepted(open_atlas, path)
        if reference is None:
            return False
        content = _plain(path, packed)
        first = content.decode("utf-8-sig").splitlines()[0]
        said = json.loads(first.removeprefix("#deconv-atlas "))
        header, rows = naive_table(content.partition(b"\n")[2])
        names = [sample["sample"] for sample in said["samples"]]
        found = reference.donors
        assert (found.regions.build, found.regions.feature) == (said["build"], said["feature"])
        assert found.samples.index.tolist() == names
        assert found.samples["tissue"].tolist() == [s["tissue"] for s in said["samples"]]
        for end, counts in (("METH", found.methylated), ("DEPTH", found.coverage)):
            places = [header.index(f"{name}_{end}") for name in names]
            assert counts.tolist() == [[int(float(row[i])) for row in rows] for i in places]
        places = [header.index(name) for name in ("chrom", "start", "end")]
        texts = [[row[i].strip() for i in places] for row in rows]
        assert found.regions.names.tolist() == [
            f"{c}:{int(float(s))}-{int(float(e))}" for c, s, e in texts
        ]
        return True

    fuzz_files(check, "ours.tsv", OURS, gzip.compress)


def test_damaged_sheets():
    def read(path):
        return read_sheet(path, need_files=False) if is_sheet(path) else None

    def check(path, packed):
        sources = accepted(read, path)
        if sources is None:
            return False
        found = [(name, s.path) for s in sources for name in s.rows.index]
        right = [(name, path.parent / file) for name, file in naive_sheet(_plain(path, packed))]
        assert sorted(found) == sorted(right)
        return True

    fuzz_files(check, "sheet.csv", SHEET, gzip.compress)


def test_damaged_maps():
    def check(path, packed):
        read = accepted(read_tissue_map, path)
        if read is None:
            return False
        right = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert dict(read.merge) == {k: tuple(v) for k, v in right.get("merge", {}).items()}
        assert read.drop == tuple(right.get("drop", ()))
        return True

    fuzz_files(check, "map.yaml", MAP, gzip.compress)
