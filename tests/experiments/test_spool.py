"""The local record of metrics: append-only, first write wins, torn lines are dropped."""

import pytest

from deconv.errors import InputError
from experiments.spool import MetricSpool


def test_points_survive_and_the_first_record_of_an_epoch_stands(tmp_path):
    spool = MetricSpool(tmp_path / "m.jsonl")
    first = spool.append({"a": 0.1}, step=1)
    spool.append({"a": 0.2}, step=2)
    again = MetricSpool(tmp_path / "m.jsonl")
    assert list(again.points) == [1, 2]
    assert again.append({"a": 9.9}, step=1) == first
    assert (tmp_path / "m.jsonl").read_text().count("\n") == 2


def test_line_cut_off_by_a_crash_is_dropped_at_any_length(tmp_path):
    path = tmp_path / "m.jsonl"
    spool = MetricSpool(path)
    spool.append({"a": 0.1}, step=1)
    whole = path.stat().st_size
    spool.append({"a": 0.2}, step=2)
    content = path.read_bytes()
    for length in range(whole, len(content)):
        path.write_bytes(content[:length])
        resumed = MetricSpool(path)
        assert list(resumed.points) == [1]
        resumed.append({"a": 0.3}, step=2)
        assert MetricSpool(path).points[2].metrics == {"a": 0.3}


def test_damage_within_the_record_is_refused_with_its_line(tmp_path):
    path = tmp_path / "m.jsonl"
    MetricSpool(path).append({"a": 0.1}, step=1)
    path.write_bytes(path.read_bytes() + b'{"step": \xff}\n')
    with pytest.raises(InputError, match=r"m\.jsonl, line 2: the record is damaged"):
        MetricSpool(path)


def test_not_a_number_is_kept(tmp_path):
    MetricSpool(tmp_path / "m.jsonl").append({"a": float("inf")}, step=1)
    assert MetricSpool(tmp_path / "m.jsonl").points[1].metrics == {"a": float("inf")}
