"""Real scoring servers, `deconv serve` and `mlflow models serve`, and requests to them."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from ports import free_port

JSON = "application/json"


class ScoringServer:
    """A process that serves a model at a port of 127.0.0.1; `stop` returns its exit status."""

    def __init__(self, folder, *command):
        self.port = free_port()
        self.log = folder / f"{self.port}.log"
        command = [sys.executable, "-m", *map(str, command), "--port", str(self.port)]
        # `mlflow models serve` calls uvicorn by name.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "PATH": path}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, env=os.environ | settings,
            )  # fmt: skip

    def wait(self, seconds=180):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.get("/ping")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(self.log.read_text())

    def get(self, path):
        return self._ask("GET", path, None, {})[:2]

    def post(self, body, content_type=JSON, **headers):
        """Return status, text and headers of the answer to a body: text, bytes or what JSON is."""
        if not isinstance(body, str | bytes):
            body = json.dumps(body)
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        if content_type is not None:
            headers["content-type"] = content_type
        return self._ask("POST", "/invocations", body, headers)

    def _ask(self, method, path, body, headers):
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)) as link:
            link.request(method, path, body, headers)
            answer = link.getresponse()
            return answer.status, answer.read().decode(), dict(answer.headers)

    def stop(self, number=signal.SIGTERM, seconds=60):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        try:
            return self.wait()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def __exit__(self, *_):
        self.stop()
