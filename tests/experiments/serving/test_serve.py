"""Models behind HTTP: the answers of `deconv predict`, refusals with a reason, a clean end."""

import copy
import http.client
import json
import math
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from ports import free_port
from scoring import JSON, ScoringServer

from deconv.bundle import bundle_hash, read_bundle
from deconv.cli import main
from deconv.errors import MismatchError
from deconv.stored import read_h5ad
from experiments.names import MODEL_NAME
from experiments.prediction_records import read_records
from experiments.scoring import Scorer, request_of
from experiments.serving.load import Question, put_under_load


@pytest.fixture(scope="module")
def samples(served_folder):
    regions = read_bundle(served_folder / "bundle").atlas.regions
    return read_h5ad(served_folder / "samples.h5ad").load().at_regions(regions)


@pytest.fixture(scope="module")
def request_body(samples):
    return request_of(samples)


@pytest.fixture
def good(request_body):
    return copy.deepcopy(request_body)


@pytest.fixture(scope="module")
def expected(served_folder, tmp_path_factory):
    """What `deconv predict` writes of the samples."""
    out = tmp_path_factory.mktemp("expected") / "out.csv"
    command = ("predict", served_folder / "samples.h5ad", "--model", served_folder / "bundle")
    main([*map(str, command), "-o", str(out)])
    return pd.read_csv(out)


def check_same(answer, expected):
    table = pd.DataFrame(json.loads(answer)["predictions"])
    assert list(table) == list(expected)
    assert table["call"].tolist() == expected["call"].tolist()
    assert table["tissue"].tolist() == expected["tissue"].tolist()
    numbers = expected.columns.drop(["sample", "tissue", "call"])
    assert {"proportion", "presence_probability", "interval_low"} <= set(numbers)
    for name in numbers:
        np.testing.assert_allclose(table[name].astype(float), expected[name], atol=1e-6)


@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_answers_are_those_of_predict(kind, request, good, expected):
    server = request.getfixturevalue(kind)
    status, answer, _ = server.post(good)
    assert status == 200, answer
    assert (expected["call"] == "not assessable").any()
    check_same(answer, expected)


def test_answer_is_strict_json_and_names_the_model(ours, good, served_folder):
    status, answer, headers = ours.post(good)
    assert status == 200

    def refuse(constant):
        raise ValueError(constant)

    rows = json.loads(answer, parse_constant=refuse)["predictions"]
    assert any(row["proportion"] is None for row in rows)
    assert headers["x-deconv-model"] == f"bundle, sha256 {bundle_hash(served_folder / 'bundle')}"
    assert [ours.get(path)[0] for path in ("/ping", "/health", "/version")] == [200] * 3
    assert ours.get("/version")[1] == mlflow.__version__


def test_example_of_the_model_is_a_request(ours, plain, served_folder):
    example = (served_folder / "mlflow" / "serving_input_example.json").read_text()
    for server in (ours, plain):
        status, answer, _ = server.post(example)
        assert status == 200, answer
    assert len(json.loads(answer)["predictions"]) == 6


def test_table_form_of_a_request_gives_the_same(ours, good, expected):
    arrays = good.pop("inputs")
    rows = [dict(zip(arrays, row, strict=True)) for row in zip(*arrays.values(), strict=True)]
    assert ours.post(good | {"dataframe_records": rows})[0] == 200
    check_same(ours.post(good | {"dataframe_records": rows})[1], expected)
    check_same(ours.post(good | {"instances": rows})[1], expected)


@pytest.mark.parametrize("name", ["hg38", "GRCh38", "HG38"])
def test_build_goes_by_each_of_its_names(served_folder, good, name):
    bundle = read_bundle(served_folder / "bundle")
    regions = replace(bundle.atlas.regions, build="hg38")
    scorer = Scorer(replace(bundle, atlas=replace(bundle.atlas, regions=regions)))
    assert len(scorer.score(good["inputs"], {"build": name})) == 12 * len(bundle.atlas.tissues)
    with pytest.raises(MismatchError, match="got hg19; expected hg38"):
        scorer.score(good["inputs"], {"build": "GRCh37"})


def put(array, value):
    """A change of a request: the value in the third sample's fifth region."""

    def change(request):
        request["inputs"][array][2][5] = value

    return change


def cut(array):
    def change(request):
        request["inputs"][array] = [row[:-1] for row in request["inputs"][array]]

    return change


def ragged(request):
    request["inputs"]["coverage"][1].pop()


def unseen_sample(request):
    for rows in request["inputs"].values():
        rows[4] = [0] * len(rows[4])


def fewer_of_one(request):
    request["inputs"]["coverage"].pop()


def no_samples(request):
    request["inputs"] = {name: [] for name in request["inputs"]}


def no_coverage(request):
    del request["inputs"]["coverage"]


def param(**values):
    return lambda request: request.update(params=values)


BAD = {
    "NaN": (put("methylated", math.nan), "methylated is not a count"),
    "infinite": (put("coverage", math.inf), "coverage is not a count"),
    "negative": (put("methylated", -1), "methylated is not a count"),
    "a fraction": (put("methylated", 0.5), "got 0.5; expected a whole number"),
    "too large a count": (put("coverage", 2**40), "expected a whole number from 0 to"),
    "methylated over coverage": (put("methylated", 10**6), "methylated exceeds coverage"),
    "text": (put("coverage", "many"), "could not convert string to float"),
    "regions missing": (cut("coverage"), "(12, 399) does not match expected shape (-1, 400)"),
    "ragged": (ragged, "inhomogeneous"),
    "fewer samples in one": (fewer_of_one, "coverage has another shape"),
    "no samples": (no_samples, "does not match expected shape"),
    "a sample without coverage": (unseen_sample, "no coverage"),
    "an array missing": (no_coverage, "missing inputs ['coverage']"),
    "another build": (param(build="hg19"), "genome build differs"),
    "no build": (param(), "state it as params.build); got unknown"),
    "another feature": (param(build="simulated", feature="u_fragment"), "the counts differ"),
    "params that are none": (lambda r: r.update(params=[1]), "must be a dictionary"),
    "two inputs": (lambda r: r.update(instances=[]), "exactly one of the input fields"),
    "no inputs": (lambda r: r.pop("inputs"), "exactly one of the input fields"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_bad_content_is_refused_with_the_reason(kind, name, request, good, expected):
    change, reason = BAD[name]
    server = request.getfixturevalue(kind)
    original = copy.deepcopy(good)
    change(good)
    status, answer, _ = server.post(good)
    assert status == 400
    assert reason in answer
    if kind == "ours":
        assert list(json.loads(answer)) == ["error"]
        assert len(answer) < 700
        assert not {"Traceback", 'File "', "Failed to"} & set(answer.split())
        check_same(server.post(original)[1], expected)


def test_what_is_no_request_is_refused_with_the_reason(ours, good):
    large = json.dumps(good | {"more": "x" * 300_000})
    many = good | {"inputs": {k: rows[:1] * 21 for k, rows in good["inputs"].items()}}
    cases = {
        413: [(large, JSON, "the body is too large; got 3")],
        415: [
            (json.dumps(good), "text/csv", "the content type is not JSON; got text/csv"),
            (json.dumps(good), None, "the content type is not JSON; got none"),
            (json.dumps(good), f"{JSON}; charset=latin-1", "only supports UTF-8"),
        ],
        400: [
            ("", JSON, "the body is empty"),
            ("{", JSON, "JSONDecodeError"),
            (b"\x80", JSON, "UnicodeDecodeError"),
            ("[1]", JSON, "no JSON object; got list"),
            ("1", JSON, "no JSON object; got int"),
            (json.dumps(good).replace("[[", "[[" + "9" * 5000 + ","), JSON, "digits"),
            (json.dumps(good | {"params": {"build": "\ud800"}}), JSON, "half a character"),
            ('{"inputs": ' + "[" * 3000 + "]" * 3000 + "}", JSON, "nested too deeply"),
            *(('{"inputs": ' + "[" * n + "]" * n + "}", JSON, "") for n in (60, 900, 960, 990)),
            (
                json.dumps(good | {"params": {"feture": "cpg"}}),
                JSON,
                "params: not known; got feture; expected build, feature",
            ),
            (
                json.dumps(good | {"inputs": good["inputs"] | {"depth": [1]}}),
                JSON,
                "inputs: not known; got depth; expected methylated, coverage",
            ),
            (many, JSON, "too many samples in a request; got 21; expected at most 20"),
        ],
    }
    for expected_status, asked in cases.items():
        for body, kind, reason in asked:
            status, answer, _ = ours.post(body, kind)
            assert (status, list(json.loads(answer))) == (expected_status, ["error"])
            assert reason in json.loads(answer)["error"]
            assert "Traceback" not in answer
    assert ours.get("/ping")[0] == 200
    assert ours.get("/invocations")[0] == 405
    assert ours.post(good)[0] == 200


def test_body_without_a_stated_length_is_not_taken_without_end(ours):
    with socket.create_connection(("127.0.0.1", ours.port), timeout=60) as link:
        link.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(30):
            link.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        link.sendall(b"0\r\n\r\n")
        assert link.recv(100).startswith(b"HTTP/1.1 413")
    assert ours.get("/ping")[0] == 200


def test_client_that_goes_away_does_no_harm(ours, good):
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", ours.port), timeout=60) as link:
            link.sendall(f'{head}Content-Length: 1000\r\n\r\n{{"inputs": '.encode())
    assert ours.post(good)[0] == 200


def test_clients_side_by_side_get_their_own_answers(ours, samples):
    alone = [ours.post(request_of(samples.take([i])))[1] for i in range(len(samples))]
    wanted = [*range(len(samples))] * 4
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: ours.post(request_of(samples.take([i]))), wanted))
    assert [status for status, *_ in found] == [200] * len(wanted)
    assert [answer for _, answer, _ in found] == [alone[i] for i in wanted]


def test_small_answers_are_sent_at_once(ours):
    """TCP may hold the second part of an answer back for 40 ms."""
    times = []
    with closing(http.client.HTTPConnection("127.0.0.1", ours.port, timeout=60)) as link:
        for _ in range(30):
            begin = time.perf_counter()
            link.request("POST", "/invocations", b"", {"content-type": JSON})
            link.getresponse().read()
            times.append(time.perf_counter() - begin)
    assert min(times[10:]) < 0.03


def test_more_requests_than_may_wait_are_sent_away_and_those_in_are_answered(served_folder, good):
    options = ("--model", "bundle", "--at-once", 1, "--max-waiting", 1)
    body = json.dumps(good).encode()
    with ScoringServer(served_folder, "deconv", "serve", *options) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as link:
            head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            link.sendall(f"{head}Content-Type: {JSON}\r\n\r\n".encode() + body[:100])
            answered = server.post(good)
            for _ in range(50):  # the one on its way may not have arrived
                if answered[0] == 503:
                    break
                answered = server.post(good)
            assert answered[0] == 503
            assert json.loads(answered[1]) == {"error": "1 requests are waiting; try again"}
            assert answered[2]["retry-after"] == "1"
            assert server.get("/ping")[0] == 200

            # One that is in when the server is told to end gets its answer.
            server.process.send_signal(signal.SIGINT)
            time.sleep(1)
            link.sendall(body[100:])
            assert link.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(60) == 0
        log = server.log.read_text()
    assert log.startswith(f"http://127.0.0.1:{server.port}/invocations: bundle, sha256 ")
    assert len(log.splitlines()) == 1, log


def test_clients_of_the_benchmark_count_failures(ours, good, samples):
    address = f"http://127.0.0.1:{ours.port}/invocations"
    body = json.dumps(good).encode()
    n_rows = len(samples) * 6
    cases = {
        "status 400": (address, Question(b"{}", np.zeros(n_rows))),
        "another answer": (address, Question(body, np.zeros(n_rows))),
        "ConnectionRefusedError": (
            f"http://127.0.0.1:{free_port()}/invocations", Question(body, np.zeros(n_rows))
        ),
    }  # fmt: skip
    for reason, (asked, question) in cases.items():
        load = put_under_load(asked, [question], n_clients=2, seconds=0.2, memory=lambda: 1.0)
        assert load.milliseconds == []
        assert len(load.failures) >= 2
        assert all(reason in failure for failure in load.failures)


def test_answers_are_recorded_as_those_of_predict_are(served_folder, tmp_path, good):
    command = ("deconv", "serve", "--model", served_folder / "bundle", "--records", "kept")
    with ScoringServer(tmp_path, *command) as server:
        assert server.post(good)[0] == 200
        assert server.post(good | {"params": {"build": "hg19"}})[0] == 400
        served, notes = read_records(tmp_path / "kept")
        shutil.rmtree(tmp_path / "kept")
        (tmp_path / "kept").touch()
        status, answer, _ = server.post(good)
        assert (status, "its log says why" in answer) == (500, True)
        assert "cannot write the records" in server.log.read_text()
    main(["predict", str(served_folder / "samples.h5ad"), "--model",
          str(served_folder / "bundle"), "--records", str(tmp_path / "theirs"),
          "-o", str(tmp_path / "out.csv")])  # fmt: skip
    expected, _ = read_records(tmp_path / "theirs")
    assert notes == []
    assert [r.content for r in served] == [r.content for r in expected]
    assert {r.sample for r in served} == {""}
    for ours, theirs in zip(served, expected, strict=True):
        assert ours.figures == pytest.approx(theirs.figures, rel=1e-5)
        assert ours.calls == pytest.approx(theirs.calls, abs=1e-6)
        assert ours.not_assessable == theirs.not_assessable
        assert ours.model == theirs.model


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_production_is_served_by_workers_that_end_with_the_server(
    workers, store, served_folder, good, expected
):
    client = MlflowClient()
    client.create_registered_model(MODEL_NAME)
    model = shutil.copytree(served_folder / "mlflow", store / "model")
    # What lies beside the bundle is not run, whoever put it there.
    (model / "pyfunc_model.py").write_text(
        f"from pathlib import Path\nPath({str(store / 'run')!r}).touch()\n"
    )
    client.create_model_version(MODEL_NAME, str(model))
    client.set_registered_model_alias(MODEL_NAME, "production", "1")
    with ScoringServer(store, "deconv", "serve", "--workers", workers) as server:
        status, answer, headers = server.post(good)
        assert status == 200, answer
        check_same(answer, expected)
        assert headers["x-deconv-model"].startswith("version 1, sha256 ")
        assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        server.get("/ping")
    assert not (store / "run").exists()
    with suppress(MlflowException):
        mlflow.pyfunc.load_model(str(model))
    assert (store / "run").exists()  # it would have been


@pytest.mark.slow
def test_workers_end_when_the_server_is_killed(served_folder):
    command = ("deconv", "serve", "--model", "bundle", "--workers", 2)
    with ScoringServer(served_folder, *command) as server:
        time.sleep(20)  # both workers have loaded the model
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 60
        with pytest.raises(OSError, match="refused"):  # noqa: PT012
            while time.monotonic() < deadline:
                server.get("/ping")
                time.sleep(0.2)


def test_damaged_model_and_taken_port_are_refused(served_folder, tmp_path, deconv):
    damaged = shutil.copytree(served_folder / "bundle", tmp_path / "bundle")
    content = bytearray((damaged / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "weights.safetensors").write_bytes(content)
    status, _, error = deconv("serve", "--model", damaged)
    assert (status, "weights.safetensors: the file is not what was written" in error) == (2, True)
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        status, _, error = deconv("serve", "--model", served_folder / "bundle", "--port", port)
    assert status == 2
    assert f"error: 127.0.0.1:{port}: cannot listen; got Address already in use" in error
