"""Genome builds are told apart by coordinates, and chromosome names reconciled."""

import numpy as np
import pytest

from deconv.errors import MismatchError
from deconv.genomes import (
    GENOMES,
    fitting_builds,
    known_build,
    naming_note,
    plain_chromosomes,
    refuse_other_build,
)
from deconv.regions import RegionSet


def at(*places):
    return np.array([c for c, _ in places]), np.array([e for _, e in places])


def test_genomes_have_the_known_lengths():
    # totals of the assembled chromosomes, as the consortia state them
    total = {name: sum(g.sizes.values()) for name, g in GENOMES.items()}
    assert total == {
        "hg19": 3_095_677_412 + 16_571, "hg38": 3_088_269_832 + 16_569,
        "mm10": 2_725_521_370 + 16_299,
    }  # fmt: skip
    assert GENOMES["hg19"].n_cpgs * 2 == 56_434_896  # bytes of a .beta file


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([("chr1", 1000)], ["hg19", "hg38", "mm10"]),
        ([("chr22", 1000)], ["hg19", "hg38"]),
        ([("chr1", 249_000_000)], ["hg19"]),  # hg38's is 248,956,422
        ([("17", 83_000_000)], ["hg38", "mm10"]),
        ([("17", 83_000_000), ("22", 5)], ["hg38"]),
        ([("MT", 16_570)], ["hg19"]),
        ([("probe", 10)], []),
    ],
)
def test_builds_that_fit(places, expected):
    assert fitting_builds(*at(*places)) == expected


def test_coordinates_of_another_build_are_refused_and_not_lifted():
    places = at(("chr17", 100), ("chr17", 83_000_000), ("chr22", 9))
    message = (
        "f.bed: the coordinates are of another genome build than hg19; got chr17 position"
        " 83000000; expected at most 81195210; it would fit hg38, and is not lifted over"
    )
    with pytest.raises(MismatchError, match=message):
        refuse_other_build(*places, "hg19", where="f.bed")
    refuse_other_build(*places, "hg38", where="f.bed")
    refuse_other_build(*places, "t2t", where="f.bed")
    refuse_other_build(*at(("chrUn_1", 10**9)), "hg19", where="f.bed")


def test_builds_are_known_by_their_other_names():
    names = ["HG19", "GRCh37", "GRCh37.p13", "hg38", "grch38.P14", "GRCm38.p6", "Unknown", "T2T"]
    assert [known_build(name) for name in names] == [
        "hg19", "hg19", "hg19", "hg38", "hg38", "mm10", "unknown", "T2T",
    ]  # fmt: skip


def test_names_with_and_without_chr_are_one_chromosome():
    assert plain_chromosomes(np.array(["chr1", "1", "chrMT", "chrM"])).tolist() == [
        "1", "1", "M", "M",
    ]  # fmt: skip
    assert naming_note(["X", "1"], ["chr2", "chr1"]) == (
        "chromosome 1 of the file is taken as chr1 of the regions",
    )
    assert naming_note(["chr1", "chr3"], ["chr1", "chr2"]) == ()


def test_regions_of_an_unknown_build_match_data_of_one_they_exist_in():
    names, start = np.array(["chr1", "chr17"]), np.array([5, 83_000_000])
    wanted, data = (RegionSet(names, start, start + 2, b) for b in ("unknown", "GRCh38"))
    assert wanted.find_in(data, where="data").tolist() == [0, 1]
    assert RegionSet(names, start, start + 2, "hg38").find_in(data, where="data").tolist() == [
        0,
        1,
    ]
    with pytest.raises(MismatchError, match=r"data: the genome build differs.*got unknown"):
        data.find_in(wanted, where="data")
    with pytest.raises(MismatchError, match="of another genome build than hg19"):
        wanted.find_in(RegionSet(names, start, start + 2, "hg19"), where="data")


def test_regions_match_whatever_the_chromosomes_are_called():
    start = np.array([5, 5])
    wanted = RegionSet(np.array(["chr1", "chrM"]), start, start + 2, "hg19")
    data = RegionSet(np.array(["MT", "1"]), start, start + 2, "hg19")
    assert wanted.find_in(data, where="data").tolist() == [1, 0]
