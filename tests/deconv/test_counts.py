"""Counts keep their rules: 0 <= methylated <= coverage, coverage 0 is not observed."""

import numpy as np
import pytest

from deconv.errors import InputError, MismatchError


def test_beta_of_an_unobserved_region_is_not_a_number(make_counts):
    beta = make_counts().beta
    np.testing.assert_array_equal(beta, np.array([[0.5, 1.0], [np.nan, 0.75]], dtype=np.float32))


@pytest.mark.parametrize(
    ("methylated", "coverage", "message"),
    [
        ([[3]], [[2]], "sample s0, region chr1:0-50: methylated exceeds coverage.*3 of 2"),
        ([[-1]], [[2]], "negative"),
        ([[1.0]], [[2]], "methylated is not integer"),
        ([[1]], [[2, 3]], "another shape"),
    ],
)
def test_broken_counts_are_refused_with_their_place(make_counts, methylated, coverage, message):
    with pytest.raises(InputError, match=message):
        make_counts(methylated, coverage)


def test_regions_are_reordered_by_name_and_missing_ones_are_unobserved(make_counts):
    counts = make_counts([[1, 2, 3]], [[4, 5, 6]])
    wanted = counts.regions.take(np.array([2, 0]))
    assert counts.at_regions(wanted).methylated.tolist() == [[3, 1]]
    partial = make_counts([[1, 2]], [[4, 5]]).at_regions(counts.regions, min_overlap=0.5)
    assert partial.coverage.tolist() == [[4, 5, 0]]
    assert partial.methylated.tolist() == [[1, 2, 0]]


def test_hash_sees_every_part_and_no_integer_type(make_counts):
    base = make_counts(tissue=["a", "b"])
    variants = [
        make_counts(methylated=((1, 2), (0, 2)), tissue=["a", "b"]),
        make_counts(coverage=((2, 2), (0, 5)), tissue=["a", "b"]),
        make_counts(tissue=["a", "c"]),
        base.take([1, 0]),
    ]
    assert len({base.content_hash, *(v.content_hash for v in variants)}) == 5
    narrow = make_counts(np.array(base.methylated, dtype=np.uint16), tissue=["a", "b"])
    assert narrow.content_hash == base.content_hash


def test_required_labels_must_be_complete(make_counts):
    make_counts(tissue=["a", "b"]).require("tissue")
    with pytest.raises(MismatchError, match="no donor; got tissue"):
        make_counts(tissue=["a", "b"]).require("tissue", "donor")
    with pytest.raises(MismatchError, match=r"1 sample\(s\) have no tissue; got s1"):
        make_counts(tissue=["a", None]).require("tissue")
