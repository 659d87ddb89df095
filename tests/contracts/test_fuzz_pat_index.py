"""A damaged `.pat.gz` beside its index, or a damaged index: refused, or counted as undamaged.

5,000 files, cut, flipped, overwritten or with junk at their end, of a text in many blocks. Both
are packed with checksums, so what is read at all is what was written; a block that no region
needs may be damaged unnoticed.
"""

import os
from collections import Counter

import numpy as np
import pysam
from damaged_files import accepted, many, number, quick_folder
from hypothesis import given, note
from hypothesis import strategies as st
from naive_readers import NAIVE
from reader_examples import bgzip

from deconv.formats import ReadOptions, read_counts
from deconv.formats.pat import is_worth_it
from deconv.regions import RegionSet

N_CASES = 5_000
N_FILES = 20  # of a case of hypothesis
START = np.array([100_000, 300_000, 300_010])
WANTED = RegionSet(
    np.array(["chr1", "chr2", "chr2"]), START, START + 90, "toy", "u_fragment",
    START, START + 8, np.array(["U", "M", "U"]),
)  # fmt: skip


def _text():
    rng = np.random.default_rng(0)
    near = (START[:, None] + [-3, 0, 1, 2, 5]).ravel()
    index = np.sort(np.concatenate([rng.integers(1, 400_000, 200), near, near]))
    lines = []
    for i in index.tolist():
        pattern = "".join(rng.choice(list("CT."), rng.integers(5, 12), p=[0.3, 0.6, 0.1]))
        lines.append(f"chr{1 + i // 200_000}\t{i}\t{pattern}\t{1 + i % 3}\n")
    return "".join(lines).encode()


def _damaged(content, kind, a, b):
    place = a * len(content) // 4001
    if kind == "cut":
        return content[:place]
    if kind == "junk":
        return content + np.random.default_rng(a).bytes(1 + b % 99)
    if kind == "flip":
        return content[:place] + bytes([content[place] ^ (1 << b % 8)]) + content[place + 1 :]
    return content[:place] + np.random.default_rng(b).bytes(1 + b % 9) + content[place + 9 :]


def test_damaged_index_or_indexed_file_is_refused_or_read_right():
    outcome = Counter()
    kinds = st.sampled_from(["cut", "junk", "flip", "flip", "overwrite"])
    case = st.tuples(st.booleans(), kinds, number, number)

    @many(N_CASES // N_FILES)
    @given(st.lists(case, min_size=N_FILES, max_size=N_FILES))
    def check(cases):
        for of_index, kind, a, b in cases:
            path.write_bytes(whole if of_index else _damaged(whole, kind, a, b))
            index.write_bytes(_damaged(whole_index, kind, a, b) if of_index else whole_index)
            os.utime(index, (2**31, 2**31))
            assert is_worth_it(path, WANTED)
            counts = accepted(lambda path: read_counts(path, regions=WANTED), path)
            note(f"{of_index} {kind} {a} {b}")
            outcome[of_index, counts is not None] += 1
            if counts is not None:
                assert (counts.methylated.tolist(), counts.coverage.tolist()) == right

    with quick_folder() as folder:
        path = folder / "s.pat.gz"
        path.write_bytes(bgzip(_text(), block_bytes=300))
        pysam.tabix_index(str(path), force=True, csi=True, seq_col=0, start_col=1, end_col=1)
        index = path.with_name("s.pat.gz.csi")
        whole, whole_index = path.read_bytes(), index.read_bytes()
        right = NAIVE["pat"](_text(), WANTED, ReadOptions())[:2]
        assert min(right[1][0]) > 5
        before = pysam.set_verbosity(0)
        try:
            check()
        finally:
            pysam.set_verbosity(before)
    assert outcome.total() >= N_CASES
    assert min(outcome.values()) > N_CASES // 100
    assert len(outcome) == 4
