"""`make sweep`, from words to runs that have ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drq_sn.cli import sweep as command
from drq_sn.cli.launching.grid import PlannedRun
from drq_sn.cli.sweep import sweep
from tests.builders import TINY

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = [*TINY, "num_train_frames=200", "normalizer=none", "diagnose_states=0"]


def call(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "drq_sn.cli.sweep", *words], cwd=folder, capture_output=True, text=True
    )


def statuses(folder):
    return {str(path.parent.relative_to(folder / "runs")): json.loads(path.read_text())["status"]
            for path in folder.glob("runs/*/*/*/run.json")}  # fmt: skip


def test_all_runs_end_whatever_becomes_of_one(tmp_path):
    """One crashes; then the same command finds all of them over."""
    words = [*SMALL, "head=mlp2", "lr=1e-4,1e30", "run_suffix=_lr${lr}"]
    result = call(tmp_path, *words)
    assert result.returncode == 3, result.stdout + result.stderr
    assert statuses(tmp_path) == {
        "synthetic_point/drqv2_mlp2_none_lr0.0001/seed_1": "finished",
        "synthetic_point/drqv2_mlp2_none_lr1e+30/seed_1": "crashed",
    }
    assert "1 of 2 runs finished" in result.stdout
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "1_synthetic_point_drqv2_mlp2_none_lr0.0001_seed_1.log",
        "2_synthetic_point_drqv2_mlp2_none_lr1e+30_seed_1.log",
        "summary.txt",
    ]
    assert "drqv2_mlp2_none_lr1e+30/seed_1: crashed" in (folder / "summary.txt").read_text()
    again = call(tmp_path, *words)
    assert again.returncode == 3
    assert again.stdout.startswith("2 runs, 2 over already\n1 of 2 runs finished\n")


def test_a_stopped_sweep_goes_on_where_it_was(tmp_path):
    words = [*SMALL, "head=mlp2", "num_train_frames=2000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "drq_sn.cli.sweep", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "runs/synthetic_point/drqv2_mlp2_none/seed_1/train.csv"
    while not (log.exists() and len(log.read_text().splitlines()) > 3):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "drqv2_mlp2_none/seed_1: stopped, with a checkpoint, at frame" in output
    assert errors == "stopped by SIGTERM; rerun the same command to resume\n"
    assert list(statuses(tmp_path).values()) == ["interrupted"]
    assert call(tmp_path, *words).returncode == 0
    record = json.loads(log.with_name("run.json").read_text())
    assert record["status"] == "finished"
    assert record["resumed"][0]["frame"] > 0


def test_a_dry_run_lists_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sweep(["experiment=table1", "task=cup_catch", "seed=1,2", "dry_run=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 runs, 0 over already"
    assert lines[1].split() == [
        "agent=drqv2",
        "task=cup_catch",
        "num_train_frames=500000",
        "head=mlp2",
        "normalizer=none",
        "seed=1",
    ]
    assert len(lines) == 7
    assert list(tmp_path.iterdir()) == []


def test_table3_is_a_profile(monkeypatch):
    called = []
    monkeypatch.setattr(command.subprocess, "call", lambda words: called.append(words) or 0)
    assert sweep(["experiment=table3", "batch_size=8", "dry_run=true"]) == 0
    assert called == []
    assert sweep(["experiment=table3", "batch_size=8"]) == 0
    words = "agent=drq heads=[mlp2,mlp4,modern2,modern4] normalizers=[none] batch_size=8"
    assert called[0][1:] == ["-m", "drq_sn.cli.profile", *words.split()]


def test_the_report_says_how_runs_ended_and_what_they_said_last(tmp_path, capsys):
    runs = [PlannedRun((), tmp_path / name, 100) for name in ("refused", "killed", "waits")]
    logs = {run: tmp_path / f"{run.run_dir.name}.log" for run in runs}
    logs[runs[0]].write_text("first\nerror: lr must be a number > 0, got -1\n")
    assert command._report(runs, {runs[0]: 2, runs[1]: -9}, logs, tmp_path) == 1
    lines = (tmp_path / "summary.txt").read_text().splitlines()
    assert lines[0] == "0 of 3 runs finished"
    assert lines[1].endswith("refused: refused, at frame 0: error: lr must be a number > 0, got -1")
    assert lines[2].endswith("killed: killed by SIGKILL, at frame 0")
    assert lines[3].endswith("waits: not begun, at frame 0")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=tabel1"], "did you mean 'table1'"),
        (["launcher=slrum"], "did you mean 'slurm'"),
        (
            ["experiment=table1", "head=mlp2", "normalizer=spectral"],
            "none of its runs has head=mlp2 normalizer=spectral",
        ),
        (["experiment=table1", "task=cup_cach"], "unknown task 'cup_cach'"),
        (["sed=1,2"], "did you mean 'seed'"),
        (["seed=1,1"], "run_dir=runs/cheetah_run/drqv2_modern4_spectral/seed_1: asked for twice"),
        (["experiment=table1", "head=modern4,simba"], "head=simba: experiment=table1 has head=mlp2, modern4 alone"),
        (["experiment=table1", "experiment=table2"], "experiment is given more than once"),
        (["experiment=table1", "experiment.seeds=[1]"], "such as seed=1,2"),
        (["launcher=local,ray"], "only options of runs take several values"),
        (["seed=4294967296"], "seed must be a number >= 0 and <= 4"),
        (["num_train_frames=abc"], "num_train_frames must be an integer >= 1, got 'abc'"),
        (["device=cuda:1"], "CUDA_VISIBLE_DEVICES"),
        (["experiment=table3", "heads=[mlp7]", "nonsense"], "nonsense"),
        (["experiment=table3", "sed=1"], "unknown option 'sed'"),
        (["fresh=true"], "not available in a sweep"),
        (["cores=[0]"], "not available in a sweep"),
        (["launcher.runs_per_gpu=0"], "launcher.runs_per_gpu must be"),
        (["launcher.cores_per_run=999"], "launcher.cores_per_run must be at most"),
        (["dry_run=maybe"], "dry_run must be true or false"),
    ],
)
def test_wrong_values_are_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep", *words])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert os.listdir(tmp_path) == []
