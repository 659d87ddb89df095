"""Small synthetic data, shared by all tests, and a runner of the command line."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deconv.atlas import build_atlas
from deconv.cli import main
from deconv.counts import RegionCounts
from deconv.mixtures import MixingEngine, MixtureConfig
from deconv.regions import RegionSet
from deconv.simulate import simulate_atlas
from deconv.splits import split_by_donor
from deconv.stored import read_h5ad

pytest_plugins = ["databases", "stores", "studies"]

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
TISSUES = ("Blood", "Colon", "Cortex", "Heart", "Liver", "Lung")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep the models of tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DECONV_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("DECONV_OFFLINE", raising=False)
        yield


@pytest.fixture(autouse=True)
def _forget_tracking_uri():
    """Leave no tracking URI set in MLflow: to unset it would take the next test's variable too."""
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)


@pytest.fixture(scope="session")
def atlas_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "atlas.h5ad"
    simulate_atlas(path, n_regions=400, n_donors=5, depth=200, seed=3, tissues=TISSUES)
    return path


@pytest.fixture(scope="session")
def pure(atlas_file):
    return read_h5ad(atlas_file)


@pytest.fixture(scope="session")
def split(pure):
    return split_by_donor(pure, n_validation=1, n_test=1, seed=0)


@pytest.fixture(scope="session")
def atlas(split):
    return build_atlas(split.train)


@pytest.fixture(scope="session")
def mixture_config():
    return MixtureConfig(designs={"several": 1.0}, background=("Blood",), depth=(10, 30))


@pytest.fixture(scope="session")
def engine(split, atlas, mixture_config):
    return MixingEngine(split.train, atlas, mixture_config, seed=1, in_atlas=True)


@pytest.fixture(scope="session")
def unseen(split, atlas, mixture_config):
    return MixingEngine(split.test, atlas, mixture_config, seed=2, in_atlas=False)


@pytest.fixture
def make_counts():
    return tiny_counts


def tiny_counts(methylated=((1, 2), (0, 3)), coverage=((2, 2), (0, 4)), **labels):
    """Counts small enough to write down; keywords become sample columns."""
    methylated, coverage = np.array(methylated), np.array(coverage)
    n_samples, n_regions = methylated.shape
    start = 100 * np.arange(n_regions)
    regions = RegionSet(np.array(["chr1"] * n_regions), start, start + 50, "hg38")
    names = [f"s{i}" for i in range(n_samples)]
    return RegionCounts(methylated, coverage, regions, pd.DataFrame(labels, index=names))


@pytest.fixture
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real data is not beside this checkout")
    return SHARED_DATA


@pytest.fixture
def deconv(capsys):
    """Run the command line in this process; returns (status, standard output, error)."""

    def run(*arguments):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status or 0, captured.out, captured.err

    return run
