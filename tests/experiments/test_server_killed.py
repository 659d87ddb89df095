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


def write_while_killing(tmp_path, backend, *, n_runs, n_epochs, n_metrics, n_kills, pause, alive):
    """Let runs write to a server that is killed, then sync what is left; returns its points."""
    folders = [tmp_path / "runs" / f"r{n}" for n in range(n_runs)]
    environment = {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "20"}
    server = Server(tmp_path, backend, environment=environment)
    mlflow.set_tracking_uri(server.uri)
    sizes = {"n_epochs": n_epochs, "n_metrics": n_metrics, "pause": pause, "wait": 0.5}
    try:
        with server, ThreadPoolExecutor(n_runs) as pool:
            writing = [pool.submit(light_run, folder, **sizes) for folder in folders]
            for _ in range(n_kills):
                time.sleep(alive)
                server.kill()
                server.start()
                server.wait()
            for each in writing:
                each.result()
            for thread in threading.enumerate():  # a process would have ended them with itself
                if thread.name == "tracking":
                    thread.join(60)
            with ThreadPoolExecutor(4) as syncing:
                synced = list(syncing.map(sync_folder, folders))
            assert [s.problems for s in synced] == [[]] * n_runs
            assert sum(s.n_left for s in synced) == 0
            runs = runs_in(server.uri)
    finally:
        mlflow.set_tracking_uri(None)
    assert sorted(run.info.run_name for run in runs) == sorted(f.name for f in folders)
    assert {run.info.status for run in runs} == {"FINISHED"}
    engine = sqlalchemy.create_engine(backend)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text(REPEATED)).all() == []
        points, n_with = connection.execute(sqlalchemy.text(COUNT)).one()
    engine.dispose()
    assert n_with == n_runs
    return points


def test_killed_server_has_each_point_once(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    points = write_while_killing(
        tmp_path, f"sqlite:///{tmp_path}/mlflow.db",
        n_runs=6, n_epochs=8, n_metrics=10, n_kills=2, pause=0.5, alive=1.5,
    )  # fmt: skip
    assert points == 6 * 8 * 10


@pytest.mark.slow
def test_server_on_postgresql_killed_ten_times_has_each_point_of_32_runs_once(tmp_path, postgres):
    points = write_while_killing(
        tmp_path, postgres.full_url(postgres.create(), "postgresql+psycopg2"),
        n_runs=32, n_epochs=30, n_metrics=40, n_kills=10, pause=3.0, alive=3.0,
    )  # fmt: skip
    assert points == 32 * 30 * 40
