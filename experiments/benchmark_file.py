"""A frozen benchmark: the test mixtures of a run as a file, with the donors they are of."""

from pathlib import Path

from deconv.counts import RegionCounts
from deconv.errors import ConfigError
from deconv.store import write_h5ad
from experiments.config import RunConfig
from experiments.data import load_run_data
from experiments.model_card import donors
from experiments.prepare import pick_device
from experiments.referee import DONORS


def write_benchmark(config: RunConfig, output: Path) -> RegionCounts:
    """Draw the test mixtures of a run again and write them.

    Raises
    ------
    ConfigError
        If the run held out no donors for a test.
    """
    data = load_run_data(config, pick_device("cpu"))
    if data.test is None:
        raise ConfigError("the run has no test mixtures", where="data.test_donors", got=0)
    names = ";".join(donors(data)["test"])
    mixtures = data.test.labelled(data.test.samples.assign(**{DONORS: names}))
    write_h5ad(mixtures, output)
    return mixtures
