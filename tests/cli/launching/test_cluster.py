"""Sweeps on Ray, whose processes all run on this machine, and on Slurm, whose commands are simulated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf

from drq_sn.cli.config.build import config_dir, instantiate
from drq_sn.validation import InvalidInput
from tests.builders import TINY

PERIOD = 472  # frames between checkpoints, of four frames a step; no evaluation falls on a multiple
RUN = [
    *TINY,
    "normalizer=none",
    "num_train_frames=4000",
    "eval_every_frames=2000",
    f"checkpoint_every_frames={PERIOD}",
]
DEADLINE_SECONDS = 240.0
TASK_DIR = "runs/synthetic_point/drqv2_mlp2_none"
SLURM = {
    # starts every task of the array in the background; a task that was requeued runs again
    "sbatch": """
cp "$1" "$SLURM_STATE/script"
task() {
  export SLURM_JOB_ID=42 SLURM_ARRAY_JOB_ID=42 SLURM_ARRAY_TASK_ID=$1
  while :; do
    rm -f "$SLURM_STATE/requeue_42_$1"
    bash "$2"
    [ -e "$SLURM_STATE/requeue_42_$1" ] || break
  done
  touch "$SLURM_STATE/ended_42_$1"
}
for i in 0 1; do task $i "$SLURM_STATE/script" > /dev/null 2>&1 & done
echo Submitted batch job 42
""",
    "srun": """
while :; do
  case $1 in
    --unbuffered) shift;;
    --output|--error) shift 2;;
    *) break;;
  esac
done
exec "$@"
""",
    "scontrol": 'touch "$SLURM_STATE/requeue_$2"\n',
    "sacct": """
echo "JobID|State|NodeList"
for i in 0 1; do
  if [ -e "$SLURM_STATE/ended_42_$i" ]; then echo "42_$i|FAILED|here"; else echo "42_$i|RUNNING|here"; fi
done
""",
}


def build(launcher, **options):
    node = OmegaConf.load(config_dir() / "launcher" / f"{launcher}.yaml")
    return instantiate(OmegaConf.create({"sweep_dir": "unused", "launcher": OmegaConf.merge(node, options)}).launcher)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Puts simulated Slurm commands on PATH; returns `write(name, script)`, which replaces one."""
    programs, state = tmp_path / "bin", tmp_path / "slurm"

    def write(name, script):
        (programs / name).write_text(f"#!/bin/bash\n{script}")
        (programs / name).chmod(0o755)

    programs.mkdir()
    state.mkdir()
    for name, script in SLURM.items():
        write(name, script)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STATE", str(state))
    return write


@pytest.fixture
def start_sweep(tmp_path):
    """`start_sweep("launcher=ray", ...)` -> the process of a sweep in `tmp_path`; killed at the end of the test."""
    processes = []

    def start(*overrides):
        command = [sys.executable, "-m", "drq_sn.cli.sweep", *RUN, *overrides]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()


def wait_until_learning(process, directory, seed):
    """Process id of the run with `seed`, once it has written a checkpoint and trained on."""
    run = directory / TASK_DIR / f"seed_{seed}"
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if any((run / "checkpoint").glob("*.json")) and len((run / "train.csv").read_text().splitlines()) > 10:
            return int((run / ".lock").read_text().splitlines()[0])
        time.sleep(0.05)
    raise AssertionError("the run did not start to learn")


def record(directory, seed):
    return json.loads((directory / TASK_DIR / f"seed_{seed}" / "run.json").read_text())


def finish(process):
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    return output


@pytest.mark.cluster
def test_ray_retries_runs_whose_worker_died_from_their_checkpoints(tmp_path, start_sweep):
    process = start_sweep("launcher=ray", "seed=1,2")
    os.kill(wait_until_learning(process, tmp_path, 1), signal.SIGKILL)
    os.kill(wait_until_learning(process, tmp_path, 2), signal.SIGTERM)
    output = finish(process)
    assert process.returncode == 0, output
    assert "2 of 2 runs finished" in output
    killed, stopped = record(tmp_path, 1)["resumed"], record(tmp_path, 2)["resumed"]
    assert killed[0]["frame"] >= PERIOD
    assert killed[0]["frame"] % PERIOD == 0
    assert stopped[0]["frame"] % PERIOD != 0  # from the checkpoint that the signal caused


@pytest.mark.cluster
def test_a_lost_ray_worker_stops_no_other_run(tmp_path, start_sweep):
    process = start_sweep("launcher=ray", "launcher.max_retries=0", "seed=1,2")
    os.kill(wait_until_learning(process, tmp_path, 1), signal.SIGKILL)
    output = finish(process)
    assert process.returncode == 1, output
    assert "seed_1: lost (no exit status) at frame" in output
    assert record(tmp_path, 2)["status"] == "finished"


@pytest.mark.cluster
def test_a_stopped_ray_sweep_leaves_checkpoints(tmp_path, start_sweep):
    process = start_sweep("launcher=ray", "launcher.num_cpus=2", "num_threads=1", "seed=1,2")
    wait_until_learning(process, tmp_path, 1)
    process.send_signal(signal.SIGTERM)
    output = finish(process)
    assert process.returncode == 143, output
    assert "seed_1: interrupted at frame" in output
    assert "seed_2: not started at frame 0" in output
    assert record(tmp_path, 1)["status"] == "interrupted"


@pytest.mark.cluster
def test_slurm_requeues_a_preempted_run_and_reports_a_lost_one(tmp_path, slurm, start_sweep):
    process = start_sweep("launcher=slurm", "launcher.partition=gpu", "+launcher.comment=paper", "seed=1,2")
    os.kill(wait_until_learning(process, tmp_path, 1), signal.SIGUSR2)
    os.kill(wait_until_learning(process, tmp_path, 2), signal.SIGKILL)
    output = finish(process)
    assert process.returncode == 1, output
    assert "submitted as 42_0, 42_1" in output
    assert "seed_2: lost (no exit status) at frame" in output
    assert record(tmp_path, 1)["status"] == "finished"
    (resumed,) = record(tmp_path, 1)["resumed"]
    assert resumed["frame"] % PERIOD != 0
    script = (tmp_path / "slurm" / "script").read_text().splitlines()
    for option in (
        "array=0-1%2",
        "comment=paper",
        "cpus-per-task=4",
        "gpus-per-node=1",
        "mem=32GB",
        "partition=gpu",
        "requeue",
        "signal=USR2@180",
        "time=1440",
    ):
        assert f"#SBATCH --{option}" in script
    assert not any("qos" in line for line in script)


@pytest.mark.cluster
def test_what_sbatch_or_submitit_refuses_is_one_line(tmp_path, slurm):
    slurm("sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n")
    for override, message in {
        "launcher.partition=gpu": "invalid partition specified: gpu",
        "+launcher.nodez=2": "Unknown argument 'nodez'",
    }.items():
        command = [sys.executable, "-m", "drq_sn.cli.sweep", *RUN, "launcher=slurm", override]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert message in line


REMOTE_RUN = """
import os, signal, sys
from pathlib import Path
from drq_sn.cli.launching import cluster
from drq_sn.cli.running.signals import Stopped

def call(*overrides):
    return cluster.RemoteRun(overrides, Path("log").absolute(), Path.cwd())()

def fail(cfg):
    raise ValueError("broken")

def stop(cfg):
    raise Stopped(signal.SIGUSR2)

stdout = os.dup(1)
signal.signal(signal.SIGUSR2, lambda *_: os.write(stdout, b"requeued "))
codes = [call("task=cheetah_rum")]
cluster.run = fail
codes.append(call())
cluster.run = stop
codes.append(call())
os.write(stdout, str(codes).encode())
"""


def test_a_remote_run_returns_its_exit_code_and_raises_signals_again(tmp_path):
    command = [sys.executable, "-c", REMOTE_RUN]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "requeued [2, 1, 140]"  # 128 + SIGUSR2
    log = (tmp_path / "log").read_text()
    assert "error: unknown task 'cheetah_rum'" in log
    assert "ValueError: broken" in log


@pytest.mark.parametrize(
    ("launcher", "option", "value"),
    [
        ("ray", "num_cpus", 0),
        ("ray", "num_cpus", 10_000),
        ("ray", "num_gpus", -1),
        ("ray", "num_gpus", 1.5),
        ("ray", "num_gpus", 10_000),
        ("ray", "max_retries", -1),
        ("slurm", "timeout_min", 0),
        ("slurm", "max_num_timeout", -1),
        ("slurm", "signal_delay_s", 0),
        ("slurm", "signal_delay_s", 100_000),
        ("slurm", "cpus_per_task", 0),
        ("slurm", "gpus_per_node", "two"),
        ("slurm", "mem_gb", 0),
        ("slurm", "array_parallelism", 0),
    ],
)
def test_options_are_checked(launcher, option, value):
    with pytest.raises(InvalidInput, match=rf"launcher\.{option} must be .*, got {value!r}"):
        build(launcher, **{option: value})


def test_gpus_of_a_ray_cluster_must_be_given():
    with pytest.raises(InvalidInput, match=r"launcher\.num_gpus must be a number with launcher\.address"):
        build("ray", address="auto")


@pytest.mark.parametrize(("launcher", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named(monkeypatch, launcher, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidInput, match=f"{package} not installed; run pip install 'drq_sn.{launcher}.'"):
        build(launcher)
