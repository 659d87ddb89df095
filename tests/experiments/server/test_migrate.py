"""An SQLite store moves to PostgreSQL: every row, every file; the server goes on from there."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.tracking import MlflowClient

from experiments.server.migrate import migrate
from experiments.server.settings import load_settings


@pytest.fixture
def filled(store, client):
    """A store with something of all that a lab has in it, made without a server."""
    experiment = client.create_experiment("study", tags={"owner": "lab"})
    run = client.create_run(experiment, tags={"phase": "2"}).info.run_id
    client.log_batch(
        run,
        metrics=[Metric("val/mae", v, 1000 + s, s) for s, v in enumerate((0.1, 1 / 3, 5e-324))]
        + [Metric("odd", float("nan"), 1, 1), Metric("odd", float("inf"), 2, 2)],
        params=[Param("model.hidden_size", "512"), Param("note", "größer, \U0001f9ec")],
        tags=[RunTag("sparse", "true")],
    )
    dataset = Dataset("train", "abc", "local", "{}", profile="{}")
    client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    client.log_text(run, "weights", "model/weights.txt")
    model = client.create_logged_model(experiment, name="model", source_run_id=run)
    client.log_batch(run, metrics=[Metric("best", 0.5, 1, 2, model_id=model.model_id)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.create_registered_model("sparse", tags={"a": "b"})
    source = f"{client.get_run(run).info.artifact_uri}/model"
    client.create_model_version("sparse", source, run_id=run, tags={"test/mae": "0.01"})
    client.set_registered_model_alias("sparse", "production", "1")
    client.delete_run(client.create_run(experiment).info.run_id)
    deleted = client.create_experiment("old")
    client.delete_experiment(deleted)
    return store, experiment, run


@pytest.fixture
def target(production_options, secrets, tmp_path):
    options = production_options()
    return options, load_settings("production", None, options[3::2])


def test_everything_arrives_and_the_numbers_go_on(filled, target, deconv, postgres, s3):
    folder, experiment, run = filled
    options, settings = target
    before = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    expected = before.get_run(run)
    history = before.get_metric_history(run, "val/mae")
    status, output, error = deconv("server", "migrate", *options)
    assert status == 0, error
    counts = dict(line.split() for line in output.splitlines()[:-1])
    assert counts["metrics"] == "6"
    assert counts["experiments"] == "3"
    assert counts["registered_model_aliases"] == "1"
    assert output.splitlines()[-1] == "all rows compared; 1 artifacts copied"
    with closing(sqlite3.connect(folder / "mlflow.db")) as old:
        tables = old.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        for (table,) in tables:
            (n_rows,) = old.execute(f"SELECT count(*) FROM {table}").fetchone()
            found = postgres.query(settings.url.database, f"SELECT count(*) FROM {table}")
            assert (table, found) == (table, [(n_rows,)])

    uri = settings.url.set(drivername="postgresql+psycopg2", password=postgres.password)
    after = MlflowClient(uri.render_as_string(hide_password=False))
    arrived = after.get_run(run)
    assert arrived.data.to_dictionary() == expected.data.to_dictionary()
    assert arrived.inputs.to_dictionary() == expected.inputs.to_dictionary()
    assert after.get_metric_history(run, "val/mae") == history
    assert arrived.info.artifact_uri == f"mlflow-artifacts:/{experiment}/{run}/artifacts"
    version = after.get_model_version_by_alias("sparse", "production")
    assert version.source == f"{arrived.info.artifact_uri}/model"
    prefix = f"{settings.url.database}/{experiment}/{run}/"
    assert s3.keys(prefix) == [f"{prefix}artifacts/model/weights.txt"]
    assert int(after.create_experiment("next")) > int(experiment) + 1

    status, _, error = deconv("server", "migrate", *options)
    assert status == 2
    assert "the database is not empty; got 2 runs, 4 experiments" in error


def test_store_that_cannot_move_whole_moves_not_at_all(filled, target, postgres):
    folder, _, _ = filled
    _, settings = target
    with closing(sqlite3.connect(folder / "mlflow.db")) as old:
        # SQLite takes a tag of a run that is not there; PostgreSQL does not.
        old.execute("INSERT INTO tags (key, value, run_uuid) VALUES ('a', 'b', 'nobody')")
        old.commit()
    with pytest.raises(Exception, match="PostgreSQL refuses a row of tags; got insert or update"):
        migrate(load_settings("embedded"), settings)
    for table in ("runs", "metrics", "registered_models"):
        found = postgres.query(settings.url.database, f"SELECT count(*) FROM {table}")
        assert found == [(0,)]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            "UPDATE alembic_version SET version_num = 'c48cb773bb87'",
            "of another version of MLflow",
        ),
        (
            "CREATE TABLE mine AS SELECT 1 AS x",
            r"tables that MLflow does not have; got \['mine'\]",
        ),
    ],
    ids=["version", "tables"],
)
def test_other_store_is_refused_before_anything_is_written(
    store, target, postgres, damage, message
):
    _, settings = target
    with closing(sqlite3.connect("mlflow.db")) as old:
        old.execute(damage)
        old.commit()
    with pytest.raises(Exception, match=message):
        migrate(load_settings("embedded"), settings)
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert postgres.query(settings.url.database, tables) == [(0,)]


def test_no_store_or_no_database_file_is_named(target, deconv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options, _ = target
    status, _, error = deconv("server", "migrate", *options)
    assert status == 2
    assert f"{tmp_path}/mlflow.db: no such database" in error
    shutil.copy(__file__, tmp_path / "mlflow.db")
    status, _, error = deconv("server", "migrate", *options)
    assert status == 2
    assert "cannot copy the database; got file is not a database" in error
    status, _, error = deconv("server", "migrate")
    assert status == 2
    assert "migration goes from SQLite to PostgreSQL; got sqlite to sqlite" in error
