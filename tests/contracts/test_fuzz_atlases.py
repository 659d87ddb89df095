"""Damaged sample sheets and atlases: a clear error or a sound result, never a traceback."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deconv.errors import DeconvError
from deconv.formats.atlases import open_atlas
from deconv.inputs import is_sheet, read_sheet
from deconv.reference import TissueMap, read_tissue_map

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


@fuzz(SHEET)
def test_damaged_sheets(tmp_path, data):
    (tmp_path / "one.tsv").write_text("x")
    path = tmp_path / "sheet.csv"
    path.write_bytes(data)
    sources = read_or_refuse(path, lambda: read_sheet(path) if is_sheet(path) else [])
    assert all(source.path.is_file() for source in sources or [])


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


@fuzz(OURS)
def test_damaged_tables_of_this_library(tmp_path, data):
    _is_refused_or_sound(tmp_path / "ours.tsv", data, "hg38")


@fuzz(ARRAY)
def test_damaged_array_atlases(tmp_path, data):
    _is_refused_or_sound(tmp_path / "array.csv", data, "unknown")


@fuzz(MAP)
def test_damaged_maps(tmp_path, data):
    path = tmp_path / "map.yaml"
    path.write_bytes(data)
    read = read_or_refuse(path, lambda: read_tissue_map(path))
    assert read is None or isinstance(read, TissueMap)
