"""The entry point `drq-sn`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from drq_sn.cli import main as command
from drq_sn.cli.running import exit_codes
from tests.builders import ROOT, invoke

SCREEN = (24, 120)
WITHOUT = """
import sys
sys.modules["{}"] = None
sys.argv = ["drq-sn", "train", "num_train_frames=2"]
from drq_sn.cli.main import main
main()
"""


def test_help_lists_every_command_on_one_screen(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["drq-sn", "--help"])
    command.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN[0]
    assert max(map(len, lines)) <= SCREEN[1]
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in command.COMMANDS)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_is_a_module(name):
    assert importlib.util.find_spec(f"drq_sn.cli.{name.replace('-', '_')}")


def test_an_unknown_command_gets_a_near_one_and_code_2():
    result = invoke(command.main, "trian", "task=cheetah_run")
    assert (result.returncode, result.stdout) == (exit_codes.ExitCode.INVALID_INPUT, "")
    assert result.stderr == "error: unknown command 'trian'; did you mean 'train'?\n"


def test_a_command_of_earlier_versions_names_the_present_one():
    result = invoke(command.main, "diagnose", "runs=runs")
    assert (result.returncode, result.stdout) == (exit_codes.ExitCode.INVALID_INPUT, "")
    assert result.stderr == "error: diagnose has been replaced by report; use drq-sn report ...\n"


def test_options_and_exit_codes_are_those_of_the_command(tmp_path):
    result = invoke(command.main, "train", "bach_size=3", f"run_dir={tmp_path / 'run'}")
    assert result.returncode == exit_codes.ExitCode.INVALID_INPUT
    assert result.stderr.startswith("error: unknown option 'bach_size'; did you mean 'batch_size'")
    assert not (tmp_path / "run").exists()


def test_the_first_line_comes_before_torch_is_imported():
    result = subprocess.run([sys.executable, "-c", WITHOUT.format("torch")], capture_output=True, text=True)
    assert result.stdout.startswith("drq_sn ")
    assert "torch" in result.stderr


def test_without_dm_control_the_remedy_is_one_line(tmp_path):
    command = [sys.executable, "-c", WITHOUT.format("dm_control")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert list(tmp_path.iterdir()) == []
    assert result.returncode == exit_codes.ExitCode.INVALID_INPUT
    published = (ROOT / "tools" / "pins" / "published.txt").read_text().split()
    (pin,) = (word for word in published if word.startswith("dm_control=="))
    assert result.stderr == f"error: dm_control is not installed; run pip install --no-deps {pin}\n"
