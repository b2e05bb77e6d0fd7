"""Sweeps on clusters: Ray's own processes on this machine, submitit's local executor, and Slurm's command line.

What only a real Slurm can show, queues and preemption by its own rules, is not tested.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders import TINY

pytestmark = pytest.mark.cluster
PERIOD = 470  # frames, of which no evaluation falls on a multiple
WORDS = [
    *TINY,
    "head=mlp2",
    "normalizer=none",
    "num_train_frames=6000",
    "eval_every_frames=2000",
    f"checkpoint_every_frames={PERIOD}",
]
DEADLINE_SECONDS = 240.0
SUBMITIT = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
from drq_sn.cli.launching import cluster
from drq_sn.cli.launching.grid import plan
runs = plan(sys.argv[1:])
out = Path("sweep")
out.mkdir()
launcher = OmegaConf.create({
    "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "submitit_folder": "sweep/.submitit/%j", "timeout_min": 10, "max_num_timeout": 3, "name": "drq_sn",
    "cpus_per_task": 1, "gpus_per_node": 0, "tasks_per_node": 1, "nodes": 1})
endings = {}
cluster.launch(launcher, {run: out / f"{i}.log" for i, run in enumerate(runs)}, out, endings)
print("endings", list(endings.values()))
"""


def records(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("runs/*/*/seed_*/run.json"))}


def when_it_learns(folder, process, seed):
    """The process of the run with `seed`, as soon as it has written a checkpoint and some episodes after."""
    run = folder / "runs/synthetic_point/drqv2_mlp2_none" / f"seed_{seed}"
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if any((run / "checkpoint").glob("*")) and len((run / "train.csv").read_text().splitlines()) > 10:
            return int((run / ".lock").read_text())
        time.sleep(0.1)
    raise AssertionError("the run did not begin to learn")


def began(folder, *command):
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_ray_sweep_outlives_the_death_of_a_worker(tmp_path):
    sweep = [sys.executable, "-m", "drq_sn.cli.sweep", *WORDS, "launcher=ray", "+launcher.ray.init.num_cpus=2"]
    process = began(tmp_path, *sweep, "seed=1,2,3")
    os.kill(when_it_learns(tmp_path, process, 1), signal.SIGKILL)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    assert "3 of 3 runs finished" in output
    ended = records(tmp_path)
    assert [record["status"] for record in ended.values()] == ["finished"] * 3
    assert ended["seed_1"]["resumed"][0]["frame"] >= PERIOD  # from a checkpoint, not from the start
    report = subprocess.run([sys.executable, "-m", "drq_sn.cli.report"], cwd=tmp_path, capture_output=True, text=True)
    assert report.returncode == 0, report.stderr
    assert len((tmp_path / "report" / "runs.csv").read_text().splitlines()) == 1 + 3


def test_a_ray_worker_that_is_asked_to_stop_goes_on_elsewhere_from_that_very_step(tmp_path):
    sweep = [sys.executable, "-m", "drq_sn.cli.sweep", *WORDS, "launcher=ray", "+launcher.ray.init.num_cpus=1"]
    process = began(tmp_path, *sweep, "seed=1")
    os.kill(when_it_learns(tmp_path, process, 1), signal.SIGTERM)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    (resumed,) = records(tmp_path)["seed_1"]["resumed"]
    assert resumed["frame"] % PERIOD  # no periodic checkpoint, but that of the signal


def test_submitit_queues_a_preempted_run_again(tmp_path):
    process = began(tmp_path, sys.executable, "-c", SUBMITIT, *WORDS, "seed=1,2")
    os.kill(when_it_learns(tmp_path, process, 1), signal.SIGUSR2)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    ended = records(tmp_path)
    assert [record["status"] for record in ended.values()] == ["finished"] * 2
    (resumed,) = ended["seed_1"]["resumed"]
    assert resumed["frame"] % PERIOD
    assert "resumed" not in ended["seed_2"]
    assert "continuing at frame" in (tmp_path / "sweep" / "0.log").read_text()


def test_a_lost_job_ends_the_waiting_for_no_other(tmp_path):
    process = began(tmp_path, sys.executable, "-c", SUBMITIT, *WORDS, "seed=1,2")
    os.kill(when_it_learns(tmp_path, process, 1), signal.SIGKILL)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    assert "endings [None, 0]" in output
    assert records(tmp_path)["seed_2"]["status"] == "finished"


def test_a_lost_ray_worker_ends_the_waiting_for_no_other(tmp_path):
    sweep = [sys.executable, "-m", "drq_sn.cli.sweep", *WORDS, "launcher=ray", "+launcher.ray.init.num_cpus=2"]
    process = began(tmp_path, *sweep, "launcher.ray.remote.max_retries=0", "seed=1,2")
    os.kill(when_it_learns(tmp_path, process, 1), signal.SIGKILL)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1, output
    assert "seed_1: lost, at frame" in output
    assert records(tmp_path)["seed_2"]["status"] == "finished"


def test_what_slurm_is_asked_for(tmp_path):
    """A stand-in for sbatch keeps the script and fails, which ends the sweep with its reason."""
    programs = tmp_path / "bin"
    programs.mkdir()
    sbatch = programs / "sbatch"
    sbatch.write_text(f'#!/bin/sh\nfor last; do :; done\ncp "$last" {tmp_path}/script.sh\nexit 1\n')
    for name in ("srun", "sacct", "scontrol"):
        (programs / name).write_text("#!/bin/sh\nexit 1\n")
    for program in programs.iterdir():
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    sweep = [sys.executable, "-m", "drq_sn.cli.sweep", *WORDS, "launcher=slurm", "launcher.partition=gpu", "seed=1,2"]
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    result = subprocess.run(sweep, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "FailedJobError" in result.stderr  # submitit's own, of sbatch
    script = (tmp_path / "script.sh").read_text()
    for line in (
        "--array=0-1%2",
        "--requeue",
        "--signal=USR2@180",
        "--time=1440",
        "--partition=gpu",
        "--gpus-per-node=1",
    ):
        assert f"#SBATCH {line}\n" in script, script


def test_a_missing_extra_is_one_line(tmp_path):
    hide = (
        "import sys; sys.modules['hydra_plugins.hydra_ray_launcher'] = None; from drq_sn.cli.sweep import main; main()"
    )
    command = [sys.executable, "-c", hide, *WORDS, "launcher=ray"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "make sweep LAUNCHER=ray" in result.stderr
    assert list(Path(tmp_path).iterdir()) == []
