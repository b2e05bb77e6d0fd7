"""`drq-sn diagnose`, from run folders to figures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from drq_sn.cli.diagnose import patterns_of, run_diagnosis
from drq_sn.validation import InvalidInput

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "results"
FILES = ["diagnosis.csv", "figure3.png", "figure3.svg", "instruments.png", "instruments.svg"]


def diagnose(folder, *words):
    command = [sys.executable, "-m", "drq_sn.cli.diagnose", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def run(tmp_path):
    """A run that has just begun to learn."""
    folder = tmp_path / "runs" / "t" / "a" / "seed_1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("task: t\nseed: 1\n")
    (folder / "run.json").write_text('{"status": "running"}')
    (folder / "eval.csv").write_text("frame,step,episode_return_mean\n0,0,5.5\n")
    (folder / "train.csv").write_text("frame,grad_norm/actor,grad_norm/critic\n1000,,\n2000,0.5,0.25\n3000,0.")
    return folder


def test_the_published_runs_are_drawn_by_the_command(tmp_path):
    """One of an older version, without diagnostics.csv, among them."""
    result = diagnose(tmp_path, f"runs=['{RESULTS}/laptop/*','{RESULTS}/normalizers/runs']")
    assert result.returncode == 0, result.stderr
    assert names(tmp_path) == ["diagnosis"]
    assert names(tmp_path / "diagnosis") == FILES
    assert (
        "drqv2_modern4_none_laptop: 22 values of grad_norm/actor left out, zero or negative on a log axis"
        in result.stdout
    )
    assert result.stdout.count("2 finished") == 8
    assert result.stderr == ""


def test_a_former_diagnosis_is_overwritten_and_other_files_stay(run, tmp_path, capsys):
    out = tmp_path / "out"
    run_diagnosis([str(run)], out)
    before = (out / "diagnosis.csv").read_text()
    (out / "notes.txt").write_text("mine")
    with (run / "eval.csv").open("a") as file:
        file.write("10,5,6.5\n")
    run_diagnosis([str(run)], out)
    assert (out / "diagnosis.csv").read_text() == before.replace(
        "return,5.5\n", "return,5.5\nt a,1,10,episode_return,6.5\n"
    )
    assert names(out) == [*FILES, "notes.txt"]
    assert "1 running" in capsys.readouterr().out


def test_what_a_user_has_is_never_overwritten(run, tmp_path):
    for name in ("diagnosis.csv", "thesis.txt"):
        out = tmp_path / name.split(".")[0]
        out.mkdir()
        (out / name).write_text("mine")
        with pytest.raises(InvalidInput, match="holds files but no diagnosis"):
            run_diagnosis([str(run)], out)
        assert [path.read_text() for path in out.iterdir()] == ["mine"]
    with pytest.raises(InvalidInput, match="is a file"):
        run_diagnosis([str(run)], run / "eval.csv")
    with pytest.raises(InvalidInput, match="cannot be created"):
        run_diagnosis([str(run)], run / "eval.csv" / "out")


def test_a_damaged_run_leaves_nothing(run, tmp_path):
    shutil.copytree(run, run.with_name("seed_2"))
    (run / "eval.csv").write_text("frame,episode_return_mean\n0,five\n")
    with pytest.raises(InvalidInput, match=r"seed_1/eval\.csv, line 2: 'five' is not a number"):
        run_diagnosis([str(tmp_path / "runs")], tmp_path / "out")
    assert names(tmp_path) == ["runs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs=nowhere"], "runs='nowhere': matches no folder; give a run directory"),
        (["runs=[]"], "runs must name runs, got []; give a run directory"),
        (["-m"], "--multirun: a diagnosis puts all of runs=[...] side by side"),
        (["rnus=[a]"], "did you mean 'runs'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_leaves_nothing(tmp_path, words, message):
    result = diagnose(tmp_path, *words)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_runs_may_be_a_word_or_a_list():
    cfg = OmegaConf.create({"one": "a b/*", "list": ["a", 3], "none": None})
    assert [patterns_of(cfg.one), patterns_of(cfg.list)] == [["a b/*"], ["a", "3"]]
    with pytest.raises(InvalidInput, match="runs must name runs, got None; give"):
        patterns_of(cfg.none)
