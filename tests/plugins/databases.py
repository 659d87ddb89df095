"""A real PostgreSQL that asks for its password, for the tests of a session."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from ports import free_port

TOOLS = Path(__file__).parents[1] / "tools"


class Postgres:
    """A server on a port of its own, and what its user needs."""

    password = "r@nd:om/%25 pass"  # signs that a URL, an .ini and a shell each mistake

    def __init__(self, folder, port):
        self.folder, self.port, self.made = folder, port, 0

    def query(self, database, text, *values):
        """Return the rows that a statement gives, if it gives any."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="postgres", password=self.password,
            dbname=database,
        )  # fmt: skip
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(text, values)
            rows = cursor.fetchall() if cursor.description else []
        connection.close()
        return rows

    def create(self):
        """Make an empty database and return its name."""
        self.made += 1
        self.query("postgres", f"CREATE DATABASE deconv{self.made}")
        return f"deconv{self.made}"

    def url(self, database):
        """The URL of a database, without the password."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def full_url(self, database, driver="postgresql"):
        """The URL of a database, for those who are to read the password there."""
        from sqlalchemy import make_url

        url = make_url(self.url(database)).set(drivername=driver, password=self.password)
        return url.render_as_string(hide_password=False)

    def start(self):
        self._run("start-pg.sh")

    def stop(self):
        self._run("stop-pg.sh")

    def kill(self):
        """End all its processes at once, as a power cut does."""
        parent = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in (parent, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        while any(_runs(pid) for pid in (parent, *children)):
            time.sleep(0.05)
        # Where nobody waits for orphans, the dead server's number would look alive to the next.
        for name in ("postmaster.pid", f".s.PGSQL.{self.port}.lock"):
            (self.folder / "data" / name).unlink(missing_ok=True)

    def _run(self, script):
        environment = {
            **os.environ, "PG_LAB": str(self.folder / "data"), "PG_LAB_PORT": str(self.port),
            "PG_LAB_PASSWORD": self.password, "PG_LAB_CONNECTIONS": "300",
        }  # fmt: skip
        subprocess.run(
            [TOOLS / "postgres" / script], env=environment, check=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def start_postgres():
    """Yield a new server, for a fixture; skip where there is none to start."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed")
    # Not below pytest's folders: user postgres may not enter them.
    folder = Path(tempfile.mkdtemp(prefix="deconv-pg-"))
    folder.chmod(0o755)
    server = Postgres(folder, free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server, for all tests of the session; `create` makes a database."""
    yield from start_postgres()
