"""The local launcher, with a stand-in for Python that runs a given script per job."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from drq_sn.cli.launching import local
from drq_sn.cli.launching.job import Job
from drq_sn.cli.launching.local import LocalLauncher, Slot
from drq_sn.cli.running.signals import Stopped
from drq_sn.validation import InvalidInput

STAND_IN = """
import os, signal, sys, time
from pathlib import Path
directory = Path(sys.argv[1].removeprefix("task="))
with (directory / "starts").open("a") as file:
    file.write(" ".join(sys.argv[2:]) + "\\n")
signal.signal(signal.SIGTERM, lambda number, frame: ((directory / "saved").touch(), sys.exit(143)))
print("output of the run")
attempt = len((directory / "starts").read_text().splitlines())
exec((directory / "script").read_text())
"""


@pytest.fixture
def make_job(tmp_path, monkeypatch):
    """`make_job(name, script)` -> a job that executes `script`, in which `attempt` counts from 1."""
    python = tmp_path / "python"
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {tmp_path}/stand_in.py "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(python))

    def make(name, script):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "script").write_text(script)
        return Job(name, (f"task={directory}",), tmp_path / f"{name}.log")

    return make


@pytest.fixture
def exit_codes():
    """Filled in as jobs end."""
    return {}


@pytest.fixture
def launch(monkeypatch, exit_codes):
    """`launch(jobs)` -> the lines of progress, from two slots on the CPU."""

    def call(jobs):
        monkeypatch.setattr(local, "visible_gpus", list)
        lines = []
        make_launcher(monkeypatch, 2).launch(jobs, lines.append, exit_codes)
        return lines

    return call


def make_launcher(monkeypatch, num_cores, runs_per_gpu=1, cores_per_run=None, num_retries=1, quota=None):
    monkeypatch.setattr(local, "available_cores", lambda: list(range(num_cores)))
    monkeypatch.setattr(local, "num_available_cores", lambda: quota or num_cores)
    return LocalLauncher(runs_per_gpu, cores_per_run, num_retries)


def starts(job):
    return (job.log.with_suffix("") / "starts").read_text().splitlines()


def saved(job):
    return (job.log.with_suffix("") / "saved").exists()


@pytest.mark.parametrize(
    ("num_cores", "options", "gpus", "slots"),
    [
        (3, {}, [], [(None, (0,)), (None, (1,)), (None, (2,))]),
        (5, {"runs_per_gpu": 7, "cores_per_run": 2}, [], [(None, (0, 1)), (None, (2, 3))]),
        (8, {"runs_per_gpu": 2}, ["0", "3"], [("0", (0, 1)), ("3", (2, 3)), ("0", (4, 5)), ("3", (6, 7))]),
        (2, {"runs_per_gpu": 3}, ["0"], [("0", (0,)), ("0", (1,)), ("0", (0,))]),
    ],
)
def test_slots_divide_gpus_and_cores(monkeypatch, num_cores, options, gpus, slots):
    assert make_launcher(monkeypatch, num_cores, **options).slots(gpus) == [Slot(gpu, cores) for gpu, cores in slots]


def test_a_cpu_quota_limits_the_number_of_runs_and_their_threads_but_pins_nothing(monkeypatch):
    slots = make_launcher(monkeypatch, 64, cores_per_run=2, quota=4).slots([])
    assert len(slots) == 2
    job = Job("a", ("seed=1",), Path("a.log"), sets_cpus=("num_threads",))
    assert slots[0].overrides(job) == ("seed=1", "num_eval_processes=2")
    assert Slot(None, (3, 4)).overrides(job)[-1] == "cores=[3,4]"


@pytest.mark.parametrize(
    ("option", "value"), [("runs_per_gpu", 0), ("cores_per_run", 3), ("cores_per_run", 0), ("num_retries", -1)]
)
def test_options_are_checked(monkeypatch, option, value):
    with pytest.raises(InvalidInput, match=rf"launcher\.{option} must be .*, got {value}"):
        make_launcher(monkeypatch, 2, **{option: value})


def test_visible_gpus_keep_the_names_that_the_user_gave(monkeypatch):
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert local.visible_gpus() == ["GPU-a", "GPU-b"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert local.visible_gpus() == ["0", "1"]


def test_a_run_renders_on_its_own_gpu_unless_the_user_chose_another():
    slot = Slot("3", (0,))
    assert slot.environment({"A": "b"}) == {"A": "b", "CUDA_VISIBLE_DEVICES": "3", "MUJOCO_EGL_DEVICE_ID": "3"}
    assert slot.environment({"MUJOCO_EGL_DEVICE_ID": "0"})["MUJOCO_EGL_DEVICE_ID"] == "0"
    assert "MUJOCO_EGL_DEVICE_ID" not in Slot("GPU-a", (0,)).environment({})
    assert Slot(None, (0,)).environment({}) == {}


def test_jobs_run_on_separate_cores_and_write_to_their_logs(make_job, launch, tmp_path):
    script = f"""
mark = Path({str(tmp_path)!r}) / f"running_{{os.getpid()}}"
mark.touch()
assert len(list(mark.parent.glob("running_*"))) <= 2
time.sleep(0.3)
mark.unlink()
"""
    jobs = [make_job(f"run{i}", script) for i in range(4)]
    lines = launch(jobs)
    assert lines[0] == "up to 2 runs at once"
    assert sum(line.endswith(": finished") for line in lines) == 4
    assert [len(starts(job)) for job in jobs] == [1] * 4
    assert {starts(job)[0] for job in jobs} == {"cores=[0]", "cores=[1]"}
    assert jobs[3].log.read_text() == "output of the run\n"


def test_failed_runs_are_retried_and_final_endings_are_not(make_job, launch, exit_codes):
    scripts = {
        "broken": "sys.exit(1)",
        "killed_once": "attempt == 1 and os.kill(os.getpid(), signal.SIGKILL)",
        "refused": "sys.exit(2)",
        "diverged": "sys.exit(3)",
        "fine": "",
    }
    jobs = [make_job(name, script) for name, script in scripts.items()]
    lines = launch(jobs)
    assert [len(starts(job)) for job in jobs] == [2, 2, 1, 1, 1]
    assert [exit_codes[job] for job in jobs] == [1, 0, 2, 3, 0]
    assert "killed_once: killed by SIGKILL; will be retried" in lines
    assert "killed_once: attempt 2 started" in lines
    assert "diverged: training diverged" in lines


def test_an_error_of_the_launcher_leaves_no_run_behind(make_job, launch, exit_codes):
    jobs = [make_job(f"run{i}", "time.sleep(60)") for i in range(2)]
    jobs[1].log.mkdir()  # cannot be opened
    with pytest.raises(IsADirectoryError):
        launch(jobs)
    assert exit_codes[jobs[0]] in (143, -signal.SIGTERM)  # it may not have installed its handler yet


def test_a_signal_lets_every_run_write_its_checkpoint(make_job, launch, exit_codes):
    jobs = [make_job(f"run{i}", "(directory / 'ready').touch(); time.sleep(60)") for i in range(3)]

    def interrupt():
        while not all((job.log.with_suffix("") / "ready").exists() for job in jobs[:2]):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Stopped) as stopped:
        launch(jobs)
    assert stopped.value.exit_code == 143
    assert [saved(job) for job in jobs] == [True, True, False]
    assert [exit_codes.get(job) for job in jobs] == [143, 143, None]
