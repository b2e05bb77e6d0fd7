"""Fixtures for tests of commands: runs that were never trained, their reports, and the handler of SIGTERM."""

from __future__ import annotations

from pathlib import Path

import pytest

from drq_sn.cli.report import run_report
from drq_sn.report import build
from drq_sn.report.build import Choices
from drq_sn.report.types import Figure
from tests.builders import write_run

SHORT = ["num_train_frames=20000", "eval_every_frames=10000"]
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="10pt" height="10pt"/>'


@pytest.fixture
def drawn(monkeypatch):
    """Names and arguments of figures, which are not drawn here: their own tests do that."""
    calls = {}

    def figure(name, *arguments):
        calls[name] = arguments
        return Figure(name, "alt", SVG, b"pdf")

    monkeypatch.setattr(build, "learning_curves", figure)
    monkeypatch.setattr(build.dynamics_figure, "figure3", figure)
    monkeypatch.setattr(build.dynamics_figure, "further_diagnostics", lambda *arguments: [figure(*arguments)])
    monkeypatch.setattr(build, "aggregates_figure", lambda result, settings, name: figure(name, result))
    return calls


@pytest.fixture
def make_run_dir(tmp_path):
    """`make_run_dir("a", MLP2, {frame: return}, seed=1, task=..., ...)` -> a run directory below runs/."""

    def make(name, overrides, evaluations, seed=1, task="cheetah_run", **more):
        overrides = [*overrides, *SHORT, f"task={task}", f"seed={seed}"]
        return write_run(tmp_path / "runs" / name, overrides, evaluations, **more)

    return make


@pytest.fixture
def report(tmp_path, drawn, capsys, monkeypatch):
    """`report()` -> what the report of everything below runs/, written to out/, prints."""
    monkeypatch.chdir(tmp_path)

    def run(choices=None):
        run_report(["runs"], Path("out"), choices or Choices(num_bootstrap=20), [])
        return capsys.readouterr().out

    return run
