"""`drq-sn sweep`, from overrides to runs that have ended."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from drq_sn.cli import sweep as command
from drq_sn.cli.launching.grid import PlannedRun
from drq_sn.cli.launching.job import Job
from drq_sn.cli.sweep import sweep
from drq_sn.runs.status import Status
from tests.builders import TINY, invoke

pytestmark = pytest.mark.process  # composes many configurations, starts runs

SMALL = [*TINY, "num_train_frames=200", "diagnose_states=0"]


def statuses(directory):
    records = (directory / "runs").glob("*/*/*/run.json")
    return {str(path.parent.parent.name): json.loads(path.read_text())["status"] for path in records}


def test_a_stopped_sweep_resumes_a_diverged_run_stops_no_other_and_ended_runs_are_skipped(
    tmp_path, monkeypatch, capsys
):
    overrides = [*SMALL, "num_train_frames=1200", "eval_every_frames=1200", "action_repeat=2", "lr=1e30,1e-4",
                 "run_suffix=_lr${lr}"]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    diverging, finite = "drqv2_mlp2_none_lr1e+30", "drqv2_mlp2_none_lr0.0001"
    log, ended = tmp_path / f"runs/synthetic_point/{finite}/seed_1/train.csv", threading.Event()

    def is_under_way():
        return log.exists() and len(log.read_text().splitlines()) > 3 and statuses(tmp_path)[diverging] == "diverged"

    def stop():
        while not ended.wait(0.1):
            if is_under_way():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=stop)
    thread.start()
    stopped = invoke(command.main, *overrides)
    ended.set()
    thread.join()
    assert stopped.returncode == 143
    assert f"{finite}/seed_1: stopped by SIGTERM at frame" in stopped.stdout
    assert stopped.stderr == "stopped by SIGTERM; rerun the same command to resume\n"
    assert statuses(tmp_path) == {diverging: "diverged", finite: "interrupted"}

    assert sweep(overrides) == 3
    assert "1 of 2 runs finished" in capsys.readouterr().out
    record = json.loads(log.with_name("run.json").read_text())
    assert record["status"] == "finished"
    assert record["resumed"][0]["frame"] > 0
    *_, directory = sorted((tmp_path / "sweeps").iterdir(), key=lambda path: path.stat().st_mtime)
    assert sorted(path.name for path in directory.iterdir()) == [
        f"1_synthetic_point_{finite}_seed_1.log",
        "summary.txt",
    ]
    assert f"{diverging}/seed_1: diverged at frame" in (directory / "summary.txt").read_text()

    assert sweep(overrides) == 3
    assert capsys.readouterr().out.startswith("2 runs, 2 already ended\n1 of 2 runs finished\n")


def test_a_dry_run_lists_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sweep(["experiment=table1", "task=cup_catch", "seed=1,2", "dry_run=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 runs, 0 already ended"
    assert lines[1] == "task=cup_catch num_train_frames=500000 agent=drqv2 head=mlp2 normalizer=none seed=1"
    assert len(lines) == 7
    assert list(tmp_path.iterdir()) == []


def test_a_preset_trains_its_part_of_an_experiment(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sweep(["experiment=gogianu_all_layers", "preset=laptop", "seed=1", "dry_run=true"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "3 runs, 0 already ended"
    assert all("num_train_frames=1000000" in line for line in lines)


def test_the_summary_says_how_runs_ended_and_the_last_line_of_their_logs(tmp_path):
    runs = [PlannedRun((), tmp_path / name, 100) for name in ("refused", "killed", "waiting", "running")]
    jobs = {run: Job(run.name, (), tmp_path / f"{run.run_dir.name}.log") for run in runs}
    jobs[runs[0]].log.write_text("first\nerror: lr must be a number > 0, got -1\n")
    (tmp_path / "running").mkdir()
    (tmp_path / "running" / "run.json").write_text('{"status": "running"}')
    assert command._summarize(runs, jobs, {jobs[runs[0]]: 2, jobs[runs[1]]: -9}, tmp_path) == 1
    lines = (tmp_path / "summary.txt").read_text().splitlines()
    assert lines[0] == "0 of 4 runs finished"
    assert lines[1].endswith("refused: refused at frame 0: error: lr must be a number > 0, got -1")
    assert lines[2].endswith("killed: killed by SIGKILL at frame 0")
    assert lines[3].endswith("waiting: not started at frame 0")
    assert lines[4].endswith("running: running at frame 0")


def test_a_shorter_run_that_has_finished_is_waiting(tmp_path):
    (tmp_path / "config.yaml").write_text("num_train_frames: 400\n")
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    statuses = [command._progress(PlannedRun((), tmp_path, num_frames)).status for num_frames in (400, 500)]
    assert statuses == [Status.FINISHED, Status.WAITING]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=tabel1"], "did you mean 'table1'"),
        (["launcher=slrum"], "did you mean 'slurm'"),
        (["experiment=table1", "task=cup_cach"], "unknown task 'cup_cach'"),
        (["experiment=table1", "experiment=table2"], "experiment is given more than once"),
        (["experiment=table1", "experiment.seeds=[1]"], "such as seed=1,2"),
        (["sed=1,2"], "did you mean 'seed'"),
        (["seed=1,1"], "run_dir=runs/cheetah_run/drqv2_modern4_spectral/seed_1: requested twice"),
        (["seed=4294967296"], "seed must be an integer >= 0 and <= 4"),
        (["launcher=local,ray"], "only options of runs take several values"),
        (["launcher.cores_per_run=1,2"], "only options of runs take several values"),
        (["experiment=table1,table2"], "only options of runs take several values"),
        (["num_train_frames=abc"], "num_train_frames must be an integer >= 1, got 'abc'"),
        (["device=cuda:1"], "CUDA_VISIBLE_DEVICES"),
        (["fresh=true"], "not available in a sweep"),
        (["++cores=[0]"], "not available in a sweep"),
        (["batch_size=-1"], "batch_size must be an integer >= 1, got -1"),
        (["launcher.runs_per_gpu=0"], "launcher.runs_per_gpu must be"),
        (["+launcher.nonsense=1"], "unexpected keyword argument 'nonsense'"),
        (["dry_run=maybe"], "dry_run must be true or false"),
        (["device=cpu,cuda:1"], "CUDA_VISIBLE_DEVICES"),
        (["seed=--5"], "seed must be an integer >= 0"),
        (["seed=1,2", "run_suffix=_lr${lrr}"], "Interpolation key 'lrr' not found"),
        (["run_suffix=null"], "run_suffix must be text"),
        (["sweep_dir=null"], "sweep_dir must be text"),
        (["sweep_dir=${lrr}"], "Interpolation key 'lrr' not found"),
        (["experiment=table2", "agent.noise_clip=0.2"], "unknown option 'agent.noise_clip'"),
        (["experiment=table1", "normalizer.layers=all"], "with task=cup_catch"),
        (["head=mlp2,modern4", "head.critic.num_blocks=2"], "'head.critic.num_blocks' with head=mlp2"),
        (["--seed=1"], "options have no dashes; use seed=VALUE"),
    ],
)
def test_wrong_values_are_one_line_and_nothing_is_written(tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    result = invoke(command.main, *overrides)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
