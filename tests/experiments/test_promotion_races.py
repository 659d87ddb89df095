"""Many who promote at once, and deaths anywhere on the way: `production` is always whole.

Against a real tracking server, as people on several machines would have. The slow ones print
their figures: ``pytest -s -m slow tests/experiments/test_promotion_races.py``
"""

import itertools
import random
import shutil
import signal
import time

import click
import mlflow
import promoters
import pytest
import yaml
from databases import start_postgres
from light_run import Server
from mlflow.tracking import MlflowClient
from stores import use_store

from experiments.gates import Policy, load_policy
from experiments.launch import train_and_report
from experiments.moves import QUALIFIED, moves
from experiments.names import BOOK, MODEL_NAME
from experiments.promotion import promote, rollback
from experiments.registry import verify

ROLL_BACK_MOVES = 9
"""The change, of those that a roll back makes, that moves `production`."""
CHANCE = ("model.atlas_start=false", "training.learning_rate=0.002")
SETTINGS = {  # from bad to good, on the same test mixtures
    "bad": (*CHANCE, "training.num_epochs=1"),
    "better": (*CHANCE, "training.num_epochs=25"),
    "best": ("training.num_epochs=1",),
}


def train_all(folder, small_run, atlas_file):
    """Train the runs on the server in use; their ids."""
    (folder / "small.yaml").write_text(yaml.safe_dump(small_run))
    return [
        train_and_report(
            "small.yaml", data=str(atlas_file), overrides=["data.test_mixtures=200", *overrides]
        ).run_id
        for overrides in SETTINGS.values()
    ]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, empty_store, small_run, atlas_file):
    """A tracking server on SQLite, and its runs."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        use_store(folder, patch)
        with Server(folder, f"sqlite:///{folder}/mlflow.db") as server:
            mlflow.set_tracking_uri(server.uri)
            yield folder, server, train_all(folder, small_run, atlas_file)
        mlflow.set_tracking_uri(None)


@pytest.fixture
def runs(lab, monkeypatch):
    """The runs of the server, with nothing registered yet."""
    folder, server, found = lab
    monkeypatch.chdir(folder)
    mlflow.set_tracking_uri(server.uri)
    for name in (MODEL_NAME, BOOK):
        if MlflowClient().search_registered_models(f"name = '{name}'"):
            MlflowClient().delete_registered_model(name)
    yield found
    mlflow.set_tracking_uri(None)


@pytest.fixture
def server(lab):
    return lab[1]


@pytest.fixture(scope="module")
def policy():
    """Any sparse model may be the first champion; a better one replaces it."""
    content = load_policy().model_dump()
    content["metrics"] = {"test/mae": {"max": 0.5}}
    content["lineage"]["allow_changed_code"] = True
    return Policy.model_validate(content)


def assert_whole(allowed):
    """Production names a version that passed, that is complete, of one of these runs."""
    client = MlflowClient()
    version = client.get_model_version_by_alias(MODEL_NAME, "production")
    assert QUALIFIED in version.tags
    assert version.run_id in allowed
    verify(client, str(version.version))
    return version


def aliases():
    return {k: str(v) for k, v in MlflowClient().get_registered_model(MODEL_NAME).aliases.items()}


def join(process, seconds=400):
    process.join(timeout=seconds)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


@pytest.mark.parametrize("n_at_once", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_of_many_at_once_the_best_stays(server, policy, runs, n_at_once):
    client, answers = MlflowClient(), promoters.context.Queue()
    begin = time.monotonic()
    started = [
        promoters.start(server.uri, policy, runs[i % len(runs)], answers) for i in range(n_at_once)
    ]
    told = [answers.get(timeout=400) for _ in started]
    assert [join(process) for process in started] == [0] * n_at_once
    click.echo(f"{n_at_once} promotions at once: {time.monotonic() - begin:.0f} s, "
          f"{sum(kind == 'promoted' for kind, *_ in told)} promoted")  # fmt: skip
    assert {kind for kind, *_ in told} <= {"promoted", "refused"}, told
    assert assert_whole(runs).run_id == runs[-1]  # the best, whoever was first
    assert ("promoted", runs[-1], []) in told
    for kind, run_id, failed in told:
        if kind == "refused":
            assert run_id != runs[-1]
            assert "better than production" in failed
    assert len(client.search_model_versions(f"name = '{MODEL_NAME}'")) == len(runs)
    assert {t.tags["state"] for t in client.search_model_versions(f"name = '{BOOK}'")} == {
        "closed"
    }


def two_promoted(policy, runs):
    """Let the best follow the worst: both are qualified, either may be production."""
    assert promote(runs[0], policy=policy).promoted
    assert promote(runs[-1], policy=policy).promoted


def at_the_start(policy, runs, run_id):
    """Make production what it is before a move: a roll back finishes what was interrupted."""
    before = runs[-1] if run_id is None else runs[0]
    client = MlflowClient()
    if client.get_model_version_by_alias(MODEL_NAME, "production").run_id != before:
        rollback()
    assert client.get_model_version_by_alias(MODEL_NAME, "production").run_id == before
    if run_id is not None:  # judge it again, all the way
        versions = client.search_model_versions(f"name = '{MODEL_NAME}' and run_id = '{run_id}'")
        for version in versions:
            client.delete_model_version(MODEL_NAME, version.version)


@pytest.mark.parametrize(
    ("move", "changes"),
    [
        ("roll back", range(ROLL_BACK_MOVES - 1, ROLL_BACK_MOVES + 2)),
        pytest.param("roll back", itertools.count(1), marks=pytest.mark.slow),
        pytest.param("promote", itertools.count(1), marks=pytest.mark.slow),
    ],
    ids=["around the move", "all of a roll back", "all of a promotion"],
)
def test_killed_after_each_change_that_it_makes(server, policy, runs, move, changes):
    two_promoted(policy, runs)
    run_id = None if move == "roll back" else runs[-1]
    n_killed, n_moved = 0, 0
    for n_changes in changes:
        at_the_start(policy, runs, run_id)
        before = aliases()["production"]
        process = promoters.start(server.uri, policy, run_id, kill=(n_changes, 0))
        status = join(process)
        assert_whole(runs)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        n_killed += 1
        n_moved += aliases()["production"] != before
        # The next finishes what it left, without waiting for its ticket to expire.
        begin = time.monotonic()
        decision = promote(runs[0], policy=policy)
        assert decision.promoted == (assert_whole(runs).run_id == runs[0])
        assert time.monotonic() - begin < 100
        assert not [m for m in moves(MlflowClient()) if m.stage == "moving"]
    click.echo(f"{move}: killed after each of {n_killed} changes, {n_moved} times past the move")
    assert n_killed > 10 or n_killed == len(changes)
    assert n_moved >= 2


@pytest.mark.slow
def test_50_kills_at_random_points(server, policy, runs):
    two_promoted(policy, runs)
    client, answers = MlflowClient(), promoters.context.Queue()
    usual = {}
    for run_id, kind in ((None, "rolled back"), (runs[-1], "promoted")):
        begin = time.monotonic()
        process = promoters.start(server.uri, policy, run_id, answers)
        assert answers.get(timeout=300)[0] == kind
        join(process)
        usual[run_id] = time.monotonic() - begin
    rng, n_before, n_killed = random.Random(0), len(moves(client)), 0
    while n_killed < 50:
        now = client.get_model_version_by_alias(MODEL_NAME, "production")
        run_id = None if now.run_id == runs[-1] else runs[-1]
        process = promoters.start(server.uri, policy, run_id)
        process.join(timeout=rng.uniform(0, 1.2) * usual[run_id])
        process.kill()
        n_killed += join(process) == -signal.SIGKILL
        assert_whole(runs)
    n_moves = len(moves(client)) - n_before
    click.echo(f"{n_killed} kills at random points, {n_moves} moves begun, "
          f"{sum(m.stage == 'moving' for m in moves(client))} of them open")  # fmt: skip
    assert n_moves > 0
    last = promoters.start(server.uri, policy, runs[-1], answers)
    assert answers.get(timeout=100)[0] == "promoted"
    join(last)
    assert assert_whole(runs).run_id == runs[-1]
    assert not [m for m in moves(client) if m.stage == "moving"]


def test_change_asked_for_twice_is_made_once(server, policy, runs):
    """As when an answer is lost and MLflow's client asks again."""
    assert promote(runs[0], policy=policy).promoted
    client, answers = MlflowClient(), promoters.context.Queue()
    begin = time.monotonic()
    for run_id in (runs[-1], None):
        process = promoters.start(server.uri, policy, run_id, answers, twice=True)
        told = answers.get(timeout=400)
        assert (told[0], join(process)) == ("promoted" if run_id else "rolled back", 0), told
    assert time.monotonic() - begin < 100  # nobody waited for a ticket of their own to expire
    assert_whole(runs)
    assert aliases() == {"production": "1", "previous": "2"}
    states = [t.tags["state"] for t in client.search_model_versions(f"name = '{BOOK}'")]
    assert set(states) == {"closed"}
    assert {m.stage for m in moves(client)} == {"done"}


def test_server_killed_between_two_changes(server, policy, runs):
    """The command ends with what went wrong; once the server is back, the next finishes."""
    two_promoted(policy, runs)
    client, answers = MlflowClient(), promoters.context.Queue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # or it would outlast the pause
        process = promoters.start(
            server.uri, policy, None, answers, kill=(ROLL_BACK_MOVES, server.pid)
        )
        told = answers.get(timeout=300)
    assert join(process) == 1
    assert told[1] == "AwayError"
    assert "cannot roll back; got" in told[2]
    server.kill()
    server.start()
    server.wait()
    assert aliases() == {"production": "1", "previous": "1"}  # half of the move
    assert_whole(runs)
    assert rollback() == ("2", "1")  # finishes it, and makes one of its own
    assert aliases() == {"production": "2", "previous": "1"}
    assert not [m for m in moves(client) if m.stage == "moving"]


@pytest.mark.slow
def test_server_and_database_killed_while_many_promote(
    tmp_path, monkeypatch, policy, small_run, atlas_file
):
    """PostgreSQL and the MLflow server die by turns; who promotes outlasts it or says why."""
    use_store(tmp_path, monkeypatch)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    rng, answers, told = random.Random(0), promoters.context.Queue(), []
    for database in start_postgres():
        backend = database.full_url(database.create(), "postgresql+psycopg2")
        with Server(tmp_path, backend) as server:
            mlflow.set_tracking_uri(server.uri)
            runs = train_all(tmp_path, small_run, atlas_file)
            two_promoted(policy, runs)
            for turn in range(12):
                wanted = [None, runs[-1], runs[1]]
                started = [promoters.start(server.uri, policy, run, answers) for run in wanted]
                time.sleep(rng.uniform(0.5, 8))
                if turn % 2:
                    database.kill()
                    time.sleep(1)
                    database.start()
                else:
                    server.kill()
                    time.sleep(1)
                    server.start()
                    server.wait()
                answered = [answers.get(timeout=600) for _ in started]
                assert all(join(process) in (0, 1) for process in started), answered
                told += answered
                assert_whole(runs)
                promote(runs[0], policy=policy)  # the next finishes what they left
                assert not [m for m in moves(MlflowClient()) if m.stage == "moving"]
                assert_whole(runs)
        mlflow.set_tracking_uri(None)
    kinds = [kind for kind, *_ in told]
    click.echo("12 deaths of server or database under 3 who move production: "
          + ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))))  # fmt: skip
    for kind, *rest in told:
        if kind == "failed":
            click.echo(f"  {' '.join(rest)}")
