"""A real server, killed with -9 while many runs write to it, has every point exactly once."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import mlflow
import pytest
import sqlalchemy
from light_run import Server, light_run, runs_in

from experiments.sync import sync_folder

COUNT = """
    SELECT COUNT(*) AS points, COUNT(DISTINCT run_uuid) AS runs FROM metrics
    WHERE key LIKE 'train/%'
"""
REPEATED = """
    SELECT run_uuid, key, step, COUNT(*) FROM metrics GROUP BY run_uuid, key, step
    HAVING COUNT(*) <> 1
"""


class Kills:
    """How often the server was killed, on which the epochs of all runs wait.

    So each kill comes in the middle: every run has epochs left to write after it.
    """

    def __init__(self, n_kills, n_epochs):
        self._share = (n_kills + 1) / n_epochs
        self._n, self._change = 0, threading.Condition()

    def add(self):
        with self._change:
            self._n += 1
            self._change.notify_all()

    def wait(self, epoch):
        with self._change:
            assert self._change.wait_for(lambda: self._n >= int((epoch - 1) * self._share), 300)


def write_while_killing(tmp_path, backend, *, n_runs, n_epochs, n_metrics, n_kills):
    """Let runs write to a server that is killed, then sync what is left; returns its points."""
    folders = [tmp_path / "runs" / f"r{n}" for n in range(n_runs)]
    environment = {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "20"}
    server = Server(tmp_path, backend, environment=environment)
    engine = sqlalchemy.create_engine(backend, poolclass=sqlalchemy.NullPool)
    kills = Kills(n_kills, n_epochs)
    mlflow.set_tracking_uri(server.uri)
    sizes = {"n_epochs": n_epochs, "n_metrics": n_metrics, "wait": 0.5, "pace": kills.wait}
    try:
        with server, ThreadPoolExecutor(n_runs) as pool:
            stored = count(engine)[0]
            writing = [pool.submit(light_run, folder, **sizes) for folder in folders]
            for _ in range(n_kills):
                deadline = time.monotonic() + 300
                while count(engine)[0] == stored:  # it takes points when it is killed
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                server.kill()
                stored = count(engine)[0]
                kills.add()
                server.start()
                server.wait()
            for each in writing:
                each.result()
            with ThreadPoolExecutor(4) as syncing:
                synced = list(syncing.map(sync_folder, folders))
            assert [s.problems for s in synced] == [[]] * n_runs
            assert sum(s.n_left for s in synced) == 0
            runs = runs_in(server.uri)
    finally:
        mlflow.set_tracking_uri(None)
    assert sorted(run.info.run_name for run in runs) == sorted(f.name for f in folders)
    assert {run.info.status for run in runs} == {"FINISHED"}
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text(REPEATED)).all() == []
    points, n_with = count(engine)
    assert n_with == n_runs
    return points


def count(engine):
    """Return the number of points in the database, and of runs that have some."""
    with engine.connect() as connection:
        return connection.execute(sqlalchemy.text(COUNT)).one()


def test_killed_server_has_each_point_once(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    points = write_while_killing(
        tmp_path, f"sqlite:///{tmp_path}/mlflow.db",
        n_runs=6, n_epochs=8, n_metrics=10, n_kills=2,
    )  # fmt: skip
    assert points == 6 * 8 * 10


@pytest.mark.slow
def test_server_on_postgresql_killed_ten_times_has_each_point_of_32_runs_once(tmp_path, postgres):
    points = write_while_killing(
        tmp_path, postgres.full_url(postgres.create(), "postgresql+psycopg2"),
        n_runs=32, n_epochs=30, n_metrics=40, n_kills=10,
    )  # fmt: skip
    assert points == 32 * 30 * 40
