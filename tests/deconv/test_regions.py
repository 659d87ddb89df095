"""Region sets are matched by name and build, never by position."""

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
