"""Runs side by side on one machine, with stand-ins for runs that end as they are told."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from drq_sn.cli.launching import local
from drq_sn.cli.launching.grid import PlannedRun
from drq_sn.cli.launching.local import LocalLauncher, slots
from drq_sn.cli.running.signals import Stopped
from drq_sn.validation import InvalidInput

STAND_IN = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
with (folder / "begun").open("a") as file:
    file.write(" ".join(sys.argv[2:]) + " gpu=" + os.environ.get("CUDA_VISIBLE_DEVICES", "") + "\\n")
signal.signal(signal.SIGTERM, lambda number, frame: ((folder / "saved").touch(), sys.exit(143)))
print("said by the run")
attempt = len((folder / "begun").read_text().splitlines())
"""


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """`planned(name, code)` -> a run that executes `code`, in which `attempt` counts from 1."""
    codes = {}

    def start(run, *arguments, real=local._start):
        monkeypatch.setattr(local.sys, "executable", str(codes[run]))
        return real(run, *arguments)

    def build(name, code):
        folder = tmp_path / name
        folder.mkdir()
        program = folder / "python"
        program.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {folder}/code.py {folder} "$@"\n')
        program.chmod(0o755)
        (folder / "code.py").write_text(STAND_IN + code)
        run = PlannedRun((f"task={name}",), folder, 100)
        codes[run] = program
        return run

    monkeypatch.setattr(local, "_start", start)
    return build


@pytest.fixture
def endings():
    """Filled with how runs ended."""
    return {}


@pytest.fixture
def launch(tmp_path, monkeypatch, endings):
    """`launch(runs, num_slots, num_retries)` -> what was said."""

    def call(runs, num_slots=2, num_retries=1):
        monkeypatch.setattr(local, "visible_gpus", lambda: [])
        monkeypatch.setattr(local, "available_cores", lambda: list(range(num_slots)))
        said, logs = [], {run: tmp_path / f"{run.run_dir.name}.log" for run in runs}
        LocalLauncher(1, None, num_retries).launch(logs, said.append, endings)
        return said

    return call


def begun(run):
    return (run.run_dir / "begun").read_text().splitlines()


def test_places_without_a_gpu_are_groups_of_cores():
    assert [slot.cores for slot in slots([], [0, 1, 2, 3, 5], 1, None)] == [(0,), (1,), (2,), (3,), (5,)]
    assert [slot.cores for slot in slots([], [0, 1, 2, 3, 5], 7, 2)] == [(0, 1), (2, 3)]


def test_places_on_gpus_share_the_cores_out():
    places = slots(["0", "3"], list(range(8)), 2, None)
    assert [(slot.gpu, slot.cores) for slot in places] == [("0", (0, 1)), ("3", (2, 3)), ("0", (4, 5)), ("3", (6, 7))]
    assert slots(["0"], [0, 1], 3, None)[2].cores == (0,)  # more runs than cores


@pytest.mark.parametrize("arguments", [([], [0], 0, None), ([], [0], 1, 2), ([], [0], 1, 0)])
def test_places_that_cannot_be(arguments):
    with pytest.raises(InvalidInput, match="launcher"):
        slots(*arguments)


def test_a_named_gpu_is_kept(monkeypatch):
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert local.visible_gpus() == ["GPU-a", "GPU-b"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert local.visible_gpus() == ["0", "1"]


def test_all_run_each_on_its_cores_and_into_its_log(planned, launch, tmp_path):
    runs = [planned(f"run{i}", "time.sleep(0.3)") for i in range(4)]
    said = launch(runs)
    assert [begun(run)[0].split()[0] for run in runs] == [f"task=run{i}" for i in range(4)]
    assert {begun(run)[0].split()[1] for run in runs} == {"cores=[0]", "cores=[1]"}
    assert (tmp_path / "run3.log").read_text() == "said by the run\n"
    assert sum("finished" in line for line in said) == 4


def test_no_more_run_at_once_than_there_are_places(planned, launch, tmp_path):
    code = f"""
mark = Path({str(tmp_path)!r}) / f"now_{{os.getpid()}}"
mark.touch()
assert len(list(mark.parent.glob("now_*"))) <= 2
time.sleep(0.3)
mark.unlink()
"""
    assert all("finished" in line or "begins" in line for line in launch([planned(f"run{i}", code) for i in range(5)]))


def test_a_failing_run_is_tried_again_and_the_others_go_on(planned, launch, endings):
    broken = planned("broken", "sys.exit(1)")
    killed_once = planned("killed_once", "attempt == 1 and os.kill(os.getpid(), signal.SIGKILL)")
    refused, crashed, fine = planned("refused", "sys.exit(2)"), planned("crashed", "sys.exit(3)"), planned("fine", "")
    said = launch([broken, killed_once, refused, crashed, fine])
    assert [len(begun(run)) for run in (broken, killed_once, refused, crashed, fine)] == [2, 2, 1, 1, 1]
    text = "\n".join(said)
    assert "killed by SIGKILL; will be retried" in text
    assert "training diverged" in text
    assert sum("finished" in line for line in said) == 2
    assert [endings[run] for run in (broken, killed_once, refused, crashed, fine)] == [1, 0, 2, 3, 0]


def test_an_error_of_the_sweep_itself_leaves_no_run_behind(planned, launch, tmp_path):
    runs = [planned("run0", "time.sleep(60)"), planned("run1", "time.sleep(60)")]
    (tmp_path / "run1.log").mkdir()  # cannot be written
    with pytest.raises(IsADirectoryError):
        launch(runs)
    assert (runs[0].run_dir / "saved").exists() or not (runs[0].run_dir / "begun").exists()


def test_a_run_draws_on_its_own_gpu_unless_the_user_says_where():
    slot = local.Slot("3", (0,))
    assert slot.environment({"A": "b"}) == {"A": "b", "CUDA_VISIBLE_DEVICES": "3", "MUJOCO_EGL_DEVICE_ID": "3"}
    assert slot.environment({"MUJOCO_EGL_DEVICE_ID": "0"})["MUJOCO_EGL_DEVICE_ID"] == "0"
    assert "MUJOCO_EGL_DEVICE_ID" not in local.Slot("GPU-a", (0,)).environment({})
    assert local.Slot(None, (0,)).environment({}) == {}


def test_a_signal_lets_every_run_save_first(planned, launch, endings):
    runs = [planned(f"run{i}", "time.sleep(60)") for i in range(3)]

    def interrupt():
        while not all((run.run_dir / "begun").exists() for run in runs[:2]):
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Stopped) as stopped:
        launch(runs)
    assert stopped.value.exit_code == 143
    assert [(run.run_dir / "saved").exists() for run in runs] == [True, True, False]
    assert [endings.get(run) for run in runs] == [143, 143, None]
