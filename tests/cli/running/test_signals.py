"""Signals at any moment of a command end it without a traceback and with 128 plus their number."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from drq_sn.cli.running.exit_codes import run_command
from drq_sn.cli.running.signals import Interrupted, interrupt_on_signals
from tests.builders import TINY

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COMMANDS = {"drq-sn": ("drq_sn.cli.main", "train"), "train": ("drq_sn.cli.train",), "sweep": ("drq_sn.cli.sweep",)}
SIGNAL_AT_IMPORT = """
import os, runpy, sys
number, awaited, module, *arguments = sys.argv[1:]

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == awaited:
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Finder())
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(autouse=True)
def handlers():
    """Handlers of this process, put back afterwards; none of the signals is ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stop_at_import(command, number, awaited, run_dir):
    """End a command by a signal at the moment when it imports a module, and return how it ended."""
    arguments = [str(int(number)), awaited, *COMMANDS[command], *TINY, f"run_dir={run_dir}"]
    return subprocess.run([sys.executable, "-c", SIGNAL_AT_IMPORT, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("command", "awaited", "number"),
    [
        ("drq-sn", "hydra", signal.SIGTERM),
        ("train", "hydra", signal.SIGINT),
        ("sweep", "hydra", signal.SIGHUP),
        *(
            pytest.param(command, awaited, number, marks=pytest.mark.slow)
            for command in COMMANDS
            for awaited in ("numpy", "torch", "torch.nn", "drq_sn.cli.config.build")
            for number in SIGNALS
        ),
    ],
)
def test_a_signal_while_a_command_is_imported_is_one_line(tmp_path, command, awaited, number):
    result = stop_at_import(command, number, awaited, tmp_path / "run")
    assert (result.returncode, result.stderr) == (128 + number, f"stopped by {number.name}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["drq-sn", "train"])
def test_a_signal_at_a_random_moment_has_its_code_and_no_traceback(tmp_path, command, number):
    moments = random.Random(number)
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[command], *TINY, f"run_dir={tmp_path / 'run'}", "fresh=true"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(moments.uniform(0.5, 8))  # the interpreter itself takes less than 0.5 s to start
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        if process.returncode:  # not finished before
            assert process.returncode == 128 + number, errors
            assert f"stopped by {number.name}" in errors
        assert "Traceback" not in errors


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_outside_training_unwinds_and_is_one_line(capsys, number):
    unwound = []

    def main():
        try:
            signal.raise_signal(number)
        except Exception:
            unwound.append("swallowed")
        finally:
            unwound.append("cleaned up")

    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert (end.value.code, capsys.readouterr().err) == (128 + number, f"stopped by {number.name}\n")
    assert unwound == ["cleaned up"]


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupt_on_signals():
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
