"""The benchmark of the readers measures what it says; its figures are not judged here."""

import json

from deconv.benchmarks.readers import TABLES
from deconv.formats import FORMATS


def test_small_benchmark_has_every_figure(deconv, tmp_path):
    path = tmp_path / "io.json"
    options = ("--rows", 2000, "--regions", 1000)
    status, output, error = deconv("benchmark", "io", "--json", path, *options)
    assert status == 0, error
    results = {r["format"]: r for r in json.loads(path.read_text())["results"]}
    others = {"beta", "pat, fragments", "pat with an index, 60 regions"}
    assert set(results) == others | set(TABLES)
    assert set(TABLES) <= {f.name for f in FORMATS}
    for name, result in results.items():
        measured = {"rows_per_s", "cpu_seconds", "megabytes"}
        measured |= {"unpacking_rows_per_s", "naive_rows_per_s"} if name in TABLES else set()
        assert measured <= set(result)
        assert all(result[key] > 0 for key in measured)
    assert results["beta"]["rows"] == 28_217_448
    assert "unpacking_rows_per_s" in output
