"""Reports of runs that were never trained: `make_run` writes them, `go` reports what there is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from drq_sn.cli.report import run_report
from drq_sn.report import figures
from drq_sn.report.build import Choices
from drq_sn.report.types import Figure
from tests.cli.run_folders import write_run

MLP2 = ["agent=drq", "head=mlp2", "normalizer=none"]
MODERN_SN = ["agent=drq", "head=modern4", "normalizer=spectral"]
SHORT = ["num_train_frames=20000", "eval_every_frames=10000"]
QUICK = Choices(num_bootstrap=20)


def whole(last):
    return {0: 1.0, 10_000: 2.0, 20_000: last}


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.fixture
def drawn(monkeypatch):
    """Names and arguments of figures, which are not drawn here: their own tests do that."""
    calls = {}

    def stand_in(name, *arguments):
        calls[name] = arguments
        return Figure(name, "alt", b'<svg xmlns="http://www.w3.org/2000/svg" width="10pt" height="10pt"/>', b"png")

    for function in ("curves", "dynamics", "aggregates"):
        monkeypatch.setattr(figures, function, stand_in)
    return calls


@pytest.fixture
def make_run(tmp_path):
    """`make_run("a", MLP2, {frame: return}, seed=1, task=..., ...)` -> a folder below runs/."""

    def make(name, words, evaluations, seed=1, task="cheetah_run", **more):
        return write_run(
            tmp_path / "runs" / name, [*words, *SHORT, f"task={task}", f"seed={seed}"], evaluations, **more
        )

    return make


@pytest.fixture
def go(tmp_path, drawn, capsys, monkeypatch):
    """`go()` -> what the report of everything below runs/ prints; it lies in out/."""
    monkeypatch.chdir(tmp_path)

    def run(choices=QUICK):
        run_report(["runs"], Path("out"), choices, [])
        return capsys.readouterr().out

    return run
