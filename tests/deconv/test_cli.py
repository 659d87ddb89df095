"""The command line itself."""

import subprocess
import sys
from pathlib import Path

DECONV = Path(sys.executable).with_name("deconv")


def test_help_lists_the_commands_and_loads_no_framework():
    code = (
        "import sys; from deconv.cli import main; main(['--help']);"
        "heavy = {'torch', 'mlflow', 'numpy', 'pandas', 'optuna'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("simulate", "train", "tune", "promote", "predict", "ui", "demo"):
        assert f"\n  {command} " in done.stdout


def test_installed_command_works():
    done = subprocess.run([DECONV, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("deconv, version ")


def test_simulate_writes_an_atlas(deconv, tmp_path):
    path = tmp_path / "atlas.h5ad"
    options = ("--regions", 60, "--donors", 2, "--depth", 30, "--tissue", "a", "--tissue", "b")
    status, output, _ = deconv("simulate", "-o", path, *options)
    assert status == 0
    assert "4 samples of 2 tissues, 60 regions" in output
    from deconv.stored import read_h5ad

    assert len(read_h5ad(path).regions) == 60


def test_user_errors_are_one_message_and_status_2(deconv, tmp_path):
    status, _, error = deconv("simulate", "-o", tmp_path / "atlas.csv")
    assert status == 2
    assert error == f"error: {tmp_path}/atlas.csv: unknown suffix; expected .h5ad\n"
    status, _, error = deconv("simulate", "-o", tmp_path / "a.h5ad", "--donors", -1)
    assert (status, error) == (2, "error: donors must be positive; got -1\n")
    assert deconv("simulate", "--nonsense")[0] == 2
    assert deconv("nonsense")[0] == 2
    assert not list(tmp_path.iterdir())


def test_module_ends_with_the_status_of_its_command(tmp_path):
    command = [sys.executable, "-m", "deconv", "simulate", "-o", str(tmp_path / "atlas.csv")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
    code = (
        "import runpy, sys, deconv.cli; sys.argv = ['deconv'];"
        "deconv.cli.main = lambda: 75; runpy.run_module('deconv', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 75
