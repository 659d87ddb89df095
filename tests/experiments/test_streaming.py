"""A run on a set of samples that exceeds its memory takes no more memory than a small one."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from deconv.regions import RegionSet
from deconv.store import create_counts

N_REGIONS = 10_000
TRAIN = """
import sys
from deconv.cli import main
from deconv.memory import peak_megabytes
status = main(["train", *sys.argv[1:]])
print("PEAK", peak_megabytes())
sys.exit(status)
"""


def write_set(path, n_samples):
    rng = np.random.default_rng(0)
    start = 1000 * np.arange(N_REGIONS)
    regions = RegionSet(np.full(N_REGIONS, "chr1"), start, start + 500, "hg38")
    coverage = rng.poisson(50, N_REGIONS).astype(np.int32)
    methylated = rng.binomial(coverage, rng.random(N_REGIONS)).astype(np.int32)
    names = [f"s{i}" for i in range(n_samples)]
    tissues = [f"t{i % 4}" for i in range(n_samples)]
    samples = pd.DataFrame({"tissue": tissues, "donor": names}, index=names)
    with create_counts(path, regions, samples) as writer:
        for i in range(n_samples):  # all differ: identical data in two sets are refused
            writer.append(np.roll(methylated, i), np.roll(coverage, i))


@pytest.fixture
def peak(store, small_config, tmp_path):
    def train(n_samples, megabytes):
        path = tmp_path / f"{n_samples}.h5ad"
        write_set(path, n_samples)
        config = small_config(
            data={
                "profile_megabytes": megabytes, "validation_mixtures": 8, "test_donors": 0,
                "mixtures": {"designs": {"two_tissues": 1.0}},
            },
            training={"batch_size": 32, "mixtures_per_epoch": 32 * 70, "num_epochs": 1},
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, str(config), "--data", str(path)],
            cwd=store, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return float(done.stdout.split("PEAK")[1])

    return train


def test_memory_is_bounded_whatever_the_size_of_the_set(peak):
    small = peak(100, megabytes=4)
    large = peak(3000, megabytes=4)  # 240 MB of counts, 120 MB of profiles
    assert large - small < 50
    assert peak(3000, megabytes=1000) - small > 100  # the measurement sees profiles
