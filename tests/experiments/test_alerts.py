"""Alerts: noticed by rule, recorded once, delivered in the background, never in the way."""

import json
import mailbox
import math
import socketserver
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from light_run import light_run, opening

from experiments.alerts import AlertConfig, new_alerts
from experiments.config import load_config
from experiments.launch import train_and_report
from experiments.tracking import TrackedRun


def events(losses, *, mae=None, **settings):
    points = {n: {"val/loss": loss} for n, loss in enumerate(losses, start=1)}
    if mae is not None:
        points[len(losses)]["val/mae"] = mae
    return [alert.event for alert in new_alerts(AlertConfig(**settings), points)]


@pytest.mark.parametrize(
    ("losses", "settings", "expected"),
    [
        ([1.0, 0.5, 0.6], {}, []),
        ([1.0, 0.5, 5.1], {}, ["diverged"]),
        ([1.0, 0.5, 5.1], {"diverged": 20}, []),
        ([1.0, math.nan], {}, ["diverged"]),
        ([math.inf], {}, ["diverged"]),
        ([math.nan, 1.0, 2.0], {}, []),
        ([1.0, 0.5, 0.6, 0.6], {"stalled": 2}, ["stalled"]),
        ([1.0, 0.5, 0.6, 0.4], {"stalled": 2}, []),
        ([1.0, 0.5, 0.6, 0.6], {"stalled": 3}, []),
        ([1.0], {"mae": 0.02, "target": "val/mae <= 0.02"}, ["target"]),
        ([1.0], {"mae": 0.03, "target": "val/mae <= 0.02"}, []),
        ([1.0], {"mae": 0.03, "target": "val/mae>=0.02"}, ["target"]),
        ([1.0], {"target": "val/mae <= 0.02"}, []),
    ],
)
def test_rules(losses, settings, expected):
    assert events(losses, **settings) == expected


def test_epoch_without_validation_raises_nothing_new():
    points = {1: {"val/loss": 1.0}, 2: {"val/loss": 50.0}, 3: {"train/loss": 1.0}}
    assert list(new_alerts(AlertConfig(stalled=1), points)) == []


def mails(path):
    with closing(mailbox.mbox(path)) as box:
        return list(box)


@pytest.fixture
def webhook():
    """A server that keeps what it is sent, and fails as often as it is told to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if server.n_failures:
                server.n_failures -= 1
                self.send_error(503)
                return
            server.received.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.received, server.n_failures = [], 0
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_event_reaches_both_places_once_and_again_not_after_a_resume(
    store, client, webhook, monkeypatch
):
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{webhook.server_port}/secret")
    webhook.n_failures = 1
    mail = store / "mail"
    config = AlertConfig(webhook="$HOOK", mail=mail, target="train/m0 <= 0.6")
    folder = store / "runs" / "r"
    tracked = light_run(folder, n_epochs=3, wait=10, alerts=config)
    light_run(folder, n_epochs=5, wait=10, alerts=config)
    (sent,) = webhook.received
    assert sent["event"] == "target"
    assert sent["epoch"] == 2
    assert sent["text"] == "r: target: train/m0 is 0.5 at epoch 2"
    (message,) = mails(mail)
    assert message["Subject"] == sent["text"]
    assert client.get_run(tracked.run_id).data.tags["alert.target"] in sent["text"]


def test_place_that_is_gone_stops_nothing_and_is_told_once(store, capsys):
    config = AlertConfig(webhook="http://127.0.0.1:9", target="train/m0 <= 0.6")
    tracked = light_run(store / "runs" / "r", alerts=config)
    assert tracked.run_id is not None
    error = capsys.readouterr().err
    assert error.count("output.alerts.webhook: cannot deliver the alert (r: target: ") == 1
    assert "Traceback" not in error


def test_place_that_answers_nonsense_stops_nothing(store, capsys, monkeypatch):
    class Nonsense(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(b"220 mail.example ESMTP\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nonsense) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            for url in (f"http://127.0.0.1:{server.server_address[1]}", "http://127.0.0.1/a b"):
                monkeypatch.setenv("HOOK", url)
                config = AlertConfig(webhook="$HOOK", target="train/m0 <= 0.6")
                assert light_run(store / "runs" / url[-3:], alerts=config).run_id is not None
                error = capsys.readouterr().err
                assert error.count("output.alerts.webhook: cannot deliver the alert (") == 1
                assert "unexpected" not in error
                assert "Traceback" not in error
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("url", ["http://a/b c", "a.example/hook", "ftp://a/b", "http://", "x"])
def test_webhook_that_is_no_address_is_refused(url):
    assert AlertConfig(webhook="https://hooks.example/T0/$SECRET").is_on
    with pytest.raises(ValueError, match="not an address that begins with http"):
        AlertConfig(webhook=url)


def test_alert_noticed_before_a_crash_is_delivered_after_it(store):
    mail = store / "mail"
    folder = store / "runs" / "r"
    folder.mkdir(parents=True)
    unreachable = AlertConfig(mail=store / "none" / "mail", target="val/mae <= 1")
    crashed = TrackedRun(folder, opening("r"), wait=0.0, alerts=unreachable)
    crashed.log_metrics({"val/mae": 0.5}, step=1)
    crashed.finish("KILLED")
    assert not mail.exists()
    resumed = TrackedRun(
        folder, opening("r"), wait=5.0, alerts=AlertConfig(mail=mail, target="val/mae <= 1")
    )
    resumed.finish("FINISHED")
    assert len(mails(mail)) == 1


def test_training_run_meets_its_target(store, small_config, atlas_file, deconv):
    config = small_config(output={"alerts": {"mail": "mail", "target": "val/mae <= 0.9"}})
    train_and_report(str(config), data=str(atlas_file))
    (message,) = mails(store / "mail")
    assert "target: val/mae is" in message["Subject"]
    status, _, error = deconv("train", config, "--set", "output.alerts.target=soon")
    assert status == 2
    assert "output.alerts.target" in error
    assert "not a comparison such as val/mae <= 0.01" in error


def test_alerts_are_off_by_default():
    assert not load_config("phase2_sparse").output.alerts.is_on
