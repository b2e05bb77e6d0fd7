"""A visit to a machine with a GPU: steps in order, for a limited time, resumed by the next visit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import visit

from drq_sn.cli.config.overrides import check_overrides
from tests.builders import ROOT

SAVES_WHEN_STOPPED = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("saved").touch(), sys.exit(143)))
pathlib.Path("saved").exists() or time.sleep(60)
"""
WRITES_RUN = """
from pathlib import Path
Path("runs/t/a/seed_1/checkpoint").mkdir(parents=True)
for name in ("eval.csv", "weights.pt", "checkpoint/replay.npy"):
    Path("runs/t/a/seed_1", name).touch()
"""


@pytest.fixture
def go(tmp_path):
    """`go({name: code}, minutes)` -> whether all steps finished, and the exit codes in visit.json."""
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()

    def call(codes, minutes=1.0):
        steps = [visit.Step(name, ["-c", code, visit.CUDA_GRAPH], work) for name, code in codes.items()]
        finished = visit.visit(steps, work, out, minutes)
        record = json.loads((out / "visit.json").read_text())
        return finished, {name: step["exit_code"] for name, step in record["steps"].items()}

    return call


def test_a_failed_step_stops_no_other_and_is_retried(go, tmp_path):
    codes = {"first": "print('output')", "broken": "raise SystemExit(3)", "last": ""}
    assert go(codes) == (False, {"first": 0, "broken": 3, "last": 0})
    assert go(codes | {"broken": ""}) == (True, {"first": 0, "broken": 0, "last": 0})
    assert (tmp_path / "out" / "first.txt").read_text() == "output\n"  # ran once
    record = json.loads((tmp_path / "out" / "visit.json").read_text())
    assert record["machine"]["device"]
    assert record["steps"]["first"]["command"].startswith("python -c print('output')")


def test_when_the_time_is_over_a_step_may_save_and_the_next_visit_resumes(go, tmp_path):
    codes = {"long": SAVES_WHEN_STOPPED, "later": ""}
    assert go(codes, minutes=2 / 60) == (False, {"long": 143})
    assert (tmp_path / "work" / "saved").exists()
    assert go(codes) == (True, {"long": 0, "later": 0})


def test_cuda_graphs_are_used_only_after_their_tests_have_passed(go, tmp_path):
    tell = "import sys; print(sys.argv[1:])"
    go({"gpu_tests": "raise SystemExit(1)", "before": tell})
    go({"gpu_tests": "", "after": tell})
    assert (tmp_path / "out" / "before.txt").read_text() == "[]\n"
    assert (tmp_path / "out" / "after.txt").read_text() == "['runtime=cuda_graph']\n"


def test_logs_of_runs_are_kept_without_weights_and_checkpoints(go, tmp_path):
    go({"train": WRITES_RUN})
    assert [path.name for path in (tmp_path / "out" / "runs").rglob("*") if path.is_file()] == ["eval.csv"]


def test_every_step_is_a_command_that_is_accepted(tmp_path):
    steps = visit.plan(tmp_path)
    assert [step.name for step in steps[:4]] == ["gpu_tests", "bench", "profile", "cartpole_balance_sparse"]
    for _, command, *words in (step.arguments[1:] for step in steps[1:]):
        check_overrides([*(["-m"] if command == "sweep" else []), *words], command)


def test_without_a_gpu_it_is_refused():
    command = [sys.executable, str(ROOT / "tools" / "visit.py")]
    result = subprocess.run(command, capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": ""})
    assert (result.returncode, result.stderr) == (2, "error: a visit needs a GPU that torch can use\n")
