"""Region sets are matched by name and build, never by position."""

from dataclasses import replace

import numpy as np
import pytest

from deconv.errors import InputError, MismatchError
from deconv.regions import RegionSet


def regions(starts, build="hg38", feature="cpg", width=10):
    start = np.array(starts)
    return RegionSet(np.array(["chr1"] * len(starts)), start, start + width, build, feature)


def test_regions_are_found_by_name_in_another_order():
    found = regions([10, 30]).find_in(regions([30, 20, 10]), where="data")
    assert found.tolist() == [2, 0]


def test_absent_regions_are_marked_if_enough_match():
    wanted = regions([10, 20, 30, 40])
    assert wanted.find_in(regions([10, 20, 40]), where="data", min_overlap=0.75).tolist() == [
        0, 1, -1, 2,
    ]  # fmt: skip
    with pytest.raises(MismatchError, match="data: 3 of the 4 regions needed are in the data"):
        wanted.find_in(regions([10, 20, 40]), where="data", min_overlap=0.76)


def test_no_overlap_is_refused_even_if_none_is_asked_for():
    with pytest.raises(MismatchError, match="0 of the 2 regions"):
        regions([10, 20]).find_in(regions([11, 21]), where="data", min_overlap=0)


@pytest.mark.parametrize(
    ("other", "message"),
    [({"build": "hg19"}, "genome build differs"), ({"feature": "u_fragment"}, "something else")],
)
def test_equal_coordinates_of_another_build_or_feature_do_not_match(other, message):
    with pytest.raises(MismatchError, match=message):
        regions([10]).find_in(regions([10], **other), where="data")


@pytest.mark.parametrize(
    ("starts", "width", "message"),
    [
        ([], 10, "empty"),
        ([-5], 10, "not intervals"),
        ([5], 0, "not intervals"),
        ([5, 5], 1, "twice"),
    ],
)
def test_malformed_sets_are_refused(starts, width, message):
    with pytest.raises(InputError, match=message):
        regions(np.array(starts, dtype=int), width=width)


def test_hash_depends_on_build_feature_and_order():
    sets = [
        regions([1, 2]), regions([2, 1]), regions([1, 2], build="hg19"),
        regions([1, 2], feature="u_fragment"),
    ]  # fmt: skip
    assert len({s.content_hash for s in sets}) == len(sets)
    assert regions([1, 2]).content_hash == sets[0].content_hash


def test_hash_of_a_set_without_indices_is_that_of_saved_models():
    # SHA-256 of "hg38", "cpg" and the names, a line each, as version 0.1 had it
    assert regions([1, 2]).content_hash[:16] == "fc7c535fbcf967ad"


def cut(starts, direction=None, **options):
    first = np.array(starts)
    return replace(
        regions(starts, feature="u_fragment"), start_cpg=first, end_cpg=first + 2,
        direction=None if direction is None else np.array(list(direction)), **options,
    )  # fmt: skip


def test_sets_that_know_more_of_their_cpgs_are_the_same_but_hash_differently():
    bare = regions([1, 2], feature="u_fragment")
    assert bare.is_same(cut([1, 2]))
    assert bare.content_hash != cut([1, 2]).content_hash
    assert cut([1, 2]).content_hash == cut([1, 2], "UU").content_hash
    assert not bare.is_same(cut([1, 2], "UM"))
    assert cut([1, 2], "UM").content_hash != cut([1, 2], "MU").content_hash
    turned = cut([1, 2, 3], "UMU").take(np.array([1, 0]))
    assert (turned.start_cpg.tolist(), turned.direction.tolist()) == ([2, 1], ["M", "U"])


def test_counts_of_the_other_direction_do_not_match():
    message = r"1 region\(s\) are of the other direction; got U; expected M at chr1:2-12"
    with pytest.raises(MismatchError, match=message):
        cut([1, 2], "UM").find_in(regions([2, 1], feature="u_fragment"), where="data")


def test_what_needs_indices_says_so():
    with pytest.raises(MismatchError, match="no CpG indices; expected a region file"):
        assert regions([1, 2]).cpg_ranges
    with pytest.raises(InputError, match="CpG indices of one end only"):
        replace(regions([1, 2]), start_cpg=np.array([1, 2]))


@pytest.mark.parametrize("name", ["start_cpg", "end_cpg"])
def test_cpg_indices_that_are_no_integers_are_refused_not_cut(name):
    columns = {"chrom": ["chr1"], "start": [0], "end": [9], "start_cpg": [1], "end_cpg": [3]}
    with pytest.raises(InputError, match=f"{name} is not integer; got float64"):
        RegionSet.from_columns(columns | {name: [2.5]}, "hg38", "cpg")
