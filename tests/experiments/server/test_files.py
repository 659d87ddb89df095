"""The files of mlruns_config that other programs read: compose, systemd, environment."""

import configparser
import re
import shlex
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest
import yaml

from experiments.commands.server import server
from experiments.server import secrets
from experiments.server.settings import load_settings

FILES = resources.files("mlruns_config")
SECRETS = {
    secrets.DATABASE_PASSWORD, secrets.ADMIN_PASSWORD, secrets.SECRET_KEY, *secrets.S3_KEYS,
}  # fmt: skip
VALUES = {
    "DECONV_IMAGE": "registry/deconv:1", "DECONV_HOST": "mlflow.lab.example",
    "DECONV_ARTIFACTS": "s3://lab/artifacts", "DECONV_S3_ENDPOINT": "https://s3.lab.example",
}  # fmt: skip


def interpolated(value):
    """Fill in ${NAME}, ${NAME:?why} and ${NAME:-default} as compose does."""

    def fill(match):
        name, sign, rest = match.groups()
        assert not (sign is None and name not in VALUES)
        return VALUES[name] if name in VALUES else {"-": rest}[sign]

    if isinstance(value, dict):
        return {k: interpolated(v) for k, v in value.items()}
    if isinstance(value, list):
        return [interpolated(v) for v in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)(?::([?-])([^}]*))?\}", fill, value)
    return value


@pytest.fixture
def compose():
    return interpolated(yaml.safe_load((FILES / "compose.yaml").read_text()))


def parsed(arguments):
    """Parse a `deconv server` command line and return command name and settings."""
    program, group, name, *rest = arguments
    assert (program.rsplit("/", 1)[-1], group) == ("deconv", "server")
    context = server.commands[name].make_context(name, list(rest))
    return name, context.params


def test_compose_names_only_what_it_declares(compose):
    assert set(compose) == {"name", "services", "networks", "volumes", "secrets"}
    for service in compose["services"].values():
        assert set(service["secrets"]) <= set(compose["secrets"])
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        for volume in service["volumes"]:
            name, path = volume.split(":")
            assert name in compose["volumes"]
            assert path.startswith("/")
        for name, value in service["environment"].items():
            if name.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]
            else:
                assert "PASSWORD" not in name
        assert service["image"].rsplit(":", 1)[1] != "latest"
        assert service["restart"] == "unless-stopped"
        assert "healthcheck" in service
    for secret in compose["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert compose["networks"]["inside"]["internal"]
    assert "ports" not in compose["services"]["database"]


def test_compose_starts_a_server_whose_settings_hold(compose):
    service = compose["services"]["server"]
    name, options = parsed(service["command"])
    assert name == "start"
    settings = load_settings(options["profile"], None, options["overrides"])
    assert settings.auth
    assert settings.s3_endpoint == VALUES["DECONV_S3_ENDPOINT"]
    assert VALUES["DECONV_HOST"] in settings.allowed_hosts
    assert f":{settings.port}:{settings.port}" in service["ports"][0]
    assert str(settings.state) in [volume.split(":")[1] for volume in service["volumes"]]
    assert {n.removesuffix("_FILE") for n in service["environment"]} == SECRETS
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > settings.stop_timeout + 10
    check = service["healthcheck"]["test"]
    assert f"http://127.0.0.1:{settings.port}/health" in check[-1]
    compile(check[-1], "healthcheck", "exec")


def test_database_of_compose_has_the_connections_that_the_workers_need(compose):
    command = compose["services"]["database"]["command"]
    (allowed,) = (int(part.split("=")[1]) for part in command if "max_connections" in part)
    assert allowed >= load_settings("production").connections + 13


def test_unit_starts_the_documented_command():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string((FILES / "deconv-tracking.service").read_text())
    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    name, options = parsed(shlex.split(service["ExecStart"]))
    assert (name, options["profile"]) == ("start", "production")
    assert str(options["config"]) == "/etc/deconv-tracking.yaml"
    settings = load_settings("production")
    assert str(settings.state) == service["WorkingDirectory"]
    assert service["StateDirectory"] == settings.state.name
    assert float(service["TimeoutStopSec"]) > settings.stop_timeout + 10


def test_unit_is_one_that_systemd_reads(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    text = (FILES / "deconv-tracking.service").read_text()
    unit = tmp_path / "deconv-tracking.service"
    unit.write_text(text.replace("/opt/deconv/.venv/bin/deconv", shutil.which("sleep")))
    done = subprocess.run([program, "verify", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_environment_example_has_every_secret_and_no_value():
    lines = (FILES / "env.example").read_text().splitlines()
    assigned = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(assigned) == SECRETS
    assert set(assigned.values()) == {""}


def test_unfilled_environment_example_is_no_secret(monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, "")
        assert secrets.read_secret(name) is None


@pytest.mark.parametrize("profile", ["embedded", "production"])
def test_profiles_hold_64_writers_on_purpose(profile):
    settings = load_settings(profile)
    assert settings.pool_size + settings.max_overflow > 40
    assert settings.workers * 40 >= (64 if profile == "production" else 1)


def test_commands_of_the_readme_are_those_that_there_are():
    text = (Path(__file__).parents[3] / "README.md").read_text()
    section = text[text.index("## A server for a lab") :].split("\n## ")[0]
    lines = [line.split("  #")[0] for line in section.splitlines() if line.startswith("deconv ")]
    found = {parsed(shlex.split(line))[0] for line in lines}
    assert found == set(server.commands)
