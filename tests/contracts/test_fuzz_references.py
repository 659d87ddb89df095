"""Damaged atlases and region sets: refused, or read as a second, plain implementation does.

What is done to them, and how often, is told in `test_fuzz_readers.py`.
"""

import gzip

import numpy as np
import pytest
from damaged_files import accepted, fuzz
from hypothesis import note
from naive_readers import NAIVE_ATLASES, naive_regions

from deconv.formats.array_csv import read_array_atlas
from deconv.formats.atlas_tables import read_means
from deconv.formats.region_file import read_regions
from deconv.formats.uxm_atlas import read_uxm_atlas


def _profiles(atlas):
    return atlas.tissues, atlas.regions.names.tolist(), atlas.mean


ATLASES = {
    "means.tsv": (
        lambda path: _profiles(read_means(path, build="hg38").atlas),
        b"chr\tstart\tend\tliver\tlung\nchr1\t10\t20\t0.25\tNA\nchr2\t5\t9\t1\t0.5\n",
    ),
    "uxm.tsv": (
        lambda path: _profiles(read_uxm_atlas(path, build="hg38").atlas),
        b"chr\tstart\tend\tstartCpG\tendCpG\ttarget\tname\tdirection\tliver\tlung\n"
        b"chr1\t10\t40\t1\t5\tliver\tx\tU\t0.25\tNA\nchr2\t5\t29\t7\t9\tlung\ty\tM\t1\t0.5\n",
    ),
    "array.csv": (
        lambda path: _profiles(read_array_atlas(path)),
        b"CpGs,liver,lung\ncg00000029,0.25,1\nrs10,0.5,0.5\ncg00000108_TC11,NA,0.5\n",
    ),
}


@pytest.mark.parametrize("file", sorted(ATLASES))
def test_damaged_atlas_is_refused_or_read_right(file):
    read, content = ATLASES[file]

    def check(path, packed):
        found = accepted(read, path)
        if found is None:
            return False
        raw = path.read_bytes()
        note(f"{packed}: {raw!r}")
        assert packed not in ("cut", "junk")
        tissues, names, means = NAIVE_ATLASES[file](
            gzip.decompress(raw) if packed != "plain" else raw
        )
        assert (list(found[0]), found[1]) == (tissues, names)
        np.testing.assert_allclose(found[2], means, atol=1e-6)
        return True

    fuzz(check, file, content, gzip.compress, 10_000)


def test_damaged_region_set_is_refused_or_read_right():
    content = b"#chr\tstart\tend\tstartCpG\tendCpG\nchr1\t10\t40\t1\t5\nchr2\t5\t29\t7\t9\n"

    def check(path, packed):
        regions = accepted(lambda path: read_regions(path, build="hg38"), path)
        if regions is None:
            return False
        raw = path.read_bytes()
        note(f"{packed}: {raw!r}")
        assert packed not in ("cut", "junk")
        names, indices = naive_regions(gzip.decompress(raw) if packed != "plain" else raw)
        assert regions.names.tolist() == names
        known = regions.start_cpg is not None
        assert indices == (
            list(zip(regions.start_cpg.tolist(), regions.end_cpg.tolist(), strict=True))
            if known else None
        )  # fmt: skip
        return True

    fuzz(check, "regions.bed", content, gzip.compress, 10_000)
