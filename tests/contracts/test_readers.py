"""What every reader of counts owes its callers, whatever the format."""

from dataclasses import replace

import numpy as np
import pytest
from reader_examples import EXAMPLES, REGIONS

from deconv.errors import DeconvError, InputError, MismatchError
from deconv.formats import FORMATS, ReadOptions, find_format, open_counts, read_counts
from deconv.regions import RegionSet

BY_NAME = {f.name: f for f in FORMATS}
GENOME_WIDE = [e for e in EXAMPLES if BY_NAME[e.format].needs != "nothing"]


def ids(examples):
    return {"argvalues": examples, "ids": [e.file for e in examples]}


every = pytest.mark.parametrize("example", **ids(EXAMPLES))
packable = pytest.mark.parametrize(
    "example", **ids([e for e in EXAMPLES if BY_NAME[e.format].gzip])
)
genome_wide = pytest.mark.parametrize("example", **ids(GENOME_WIDE))


def read(example, path):
    return read_counts(path, regions=example.regions, options=example.options)


def test_every_format_has_an_example_and_the_suffixes_are_lower_case():
    assert {e.format for e in EXAMPLES} == set(BY_NAME)
    assert len(BY_NAME) == len(FORMATS)
    assert all(s == s.lower() for f in FORMATS for s in f.suffixes)


@every
def test_example_is_read_as_written(example, tmp_path):
    path = example.write(tmp_path)
    assert find_format(path).name == example.format
    counts = read(example, path)
    assert counts.samples.index.tolist() == example.samples
    assert counts.samples.index.name == "sample"
    assert counts.methylated.tolist() == example.methylated
    assert counts.coverage.tolist() == example.coverage
    if example.regions is not None:
        assert counts.regions.is_same(example.regions)


@every
def test_reading_twice_gives_the_same(example, tmp_path):
    path = example.write(tmp_path)
    assert read(example, path).content_hash == read(example, path).content_hash


@packable
def test_gzip_equals_plain(example, tmp_path):
    plain, packed = example.write(tmp_path), example.write(tmp_path, packed=True)
    assert find_format(packed).name == example.format
    assert read(example, packed).content_hash == read(example, plain).content_hash


@every
def test_suffix_may_be_in_capitals(example, tmp_path):
    path = example.write(tmp_path, example.file.upper())
    assert read(example, path).coverage.tolist() == example.coverage


@every
def test_content_of_every_other_format_is_refused(example, tmp_path):
    own = BY_NAME[example.format]
    for other in EXAMPLES:
        if other.format == example.format:
            continue
        path = other.write(tmp_path, example.file)
        candidates = [f.name for f in FORMATS if f.has_suffix(path)]
        if other.format in candidates:  # the suffix is that of both, and the content decides
            assert find_format(path).name == other.format
        else:
            # Of HDF5, the reader says what is not there.
            with pytest.raises(InputError, match=r"not what the suffix says|: no \w+"):
                open_counts(path, regions=example.regions, options=example.options)
    assert own.has_suffix(tmp_path / example.file)


@every
@pytest.mark.parametrize("kind", ["missing", "folder", "empty"])
def test_what_is_no_file_is_refused(example, kind, tmp_path):
    path = tmp_path / example.file
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    message = {"missing": "no such file", "folder": "not a file", "empty": "is empty"}[kind]
    with pytest.raises(InputError, match=message) as caught:
        read(example, path)
    assert str(path) in str(caught.value)


@packable
def test_gzip_of_nothing_and_plain_called_gzip_are_refused(example, tmp_path):
    path = tmp_path / f"{example.file}.gz"
    path.write_bytes(example.pack(b""))
    with pytest.raises(InputError, match="is empty"):
        read(example, path)
    path.write_bytes(example.content)
    with pytest.raises(InputError, match="suffix and content disagree"):
        read(example, path)
    plain = tmp_path / example.file
    plain.write_bytes(example.pack(example.content))
    with pytest.raises(InputError, match="suffix and content disagree"):
        read(example, plain)


@packable
def test_gzip_cut_off_anywhere_is_refused(example, tmp_path):
    path = tmp_path / f"{example.file}.gz"
    whole = example.pack(example.content)
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut off|disagree|is empty"):
            read(example, path)


@every
def test_junk_is_refused(example, tmp_path):
    path = tmp_path / example.file
    rng = np.random.default_rng(0)
    for n_bytes in (1, 2, 100, 70_001):
        path.write_bytes(rng.bytes(n_bytes))
        with pytest.raises(DeconvError) as caught:
            read(example, path)
        assert str(path) in str(caught.value)


@genome_wide
def test_genome_wide_formats_need_regions_of_a_known_build(example, tmp_path):
    path = example.write(tmp_path)
    with pytest.raises(InputError, match="expected regions to count in"):
        read_counts(path, options=example.options)
    unknown = replace(example.regions, build="unknown")
    with pytest.raises(InputError, match="build of the regions is not known"):
        read_counts(path, regions=unknown, options=example.options)
    stated = example.options.model_copy(update={"build": example.regions.build})
    counts = read_counts(path, regions=unknown, options=stated)
    assert counts.coverage.tolist() == example.coverage
    assert counts.regions.build == example.regions.build
    with pytest.raises(MismatchError, match=r"not lifted over.*; got hg38; expected toy"):
        read_counts(path, regions=example.regions, options=ReadOptions(build="hg38"))


@pytest.mark.parametrize(  # a panel is in the order of its file, which does not name it
    "example", **ids([e for e in GENOME_WIDE if BY_NAME[e.format].needs != "panel"])
)
def test_order_of_regions_is_that_asked_for(example, tmp_path):
    path = example.write(tmp_path)
    backwards = np.arange(len(example.regions))[::-1]
    turned = read_counts(path, regions=example.regions.take(backwards), options=example.options)
    assert turned.coverage.tolist() == [row[::-1] for row in example.coverage]
    assert turned.methylated.tolist() == [row[::-1] for row in example.methylated]


@genome_wide
def test_what_the_format_needs_of_the_regions_is_said(example, tmp_path):
    path = example.write(tmp_path)
    regions = example.regions
    bare = RegionSet(regions.chrom, regions.start, regions.end, regions.build, regions.feature)
    if BY_NAME[example.format].needs == "cpgs":
        with pytest.raises(MismatchError, match=r"no CpG indices; expected .* startCpG"):
            read_counts(path, regions=bare, options=example.options)
    else:
        found = read_counts(path, regions=bare, options=example.options)
        assert found.coverage.tolist() == example.coverage


def test_genome_wide_examples_use_the_same_regions_where_they_can():
    assert all(e.regions is not None for e in GENOME_WIDE)
    assert any(e.regions is REGIONS for e in GENOME_WIDE) or not GENOME_WIDE


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s.bedGraph.gz", "has no coverage"),
        ("s.bam", "alignments hold no"),
        ("s.xlsx", "unknown suffix; got .xlsx; expected .h5ad"),
    ],
)
def test_files_that_cannot_work_are_refused_with_the_reason(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        open_counts(tmp_path / name)
