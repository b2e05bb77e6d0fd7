"""Many runs on one machine: so many at once, each a process of its own with its share of GPUs and cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from drq_sn import validation
from drq_sn.cli.launching.grid import PlannedRun
from drq_sn.cli.running.exit_codes import ExitCode
from drq_sn.cli.running.signals import LAUNCHER_SIGNALS, SIGNALS, SignalHandler
from drq_sn.envs.gl import EGL_DEVICE
from drq_sn.runs.progress import number
from drq_sn.training.cpu import available_cores

FINAL = {
    ExitCode.SUCCESS,
    ExitCode.INVALID_INPUT,
    ExitCode.DIVERGED,
    ExitCode.DISK_FULL,
}  # another attempt would end in the same way
POLL_SECONDS = 0.2

Endings = dict[PlannedRun, "int | None"]
"""Run -> exit code."""


class Slot(NamedTuple):
    """A place for one run at a time.

    Attributes:
        gpu: as `CUDA_VISIBLE_DEVICES` names it; None for a run on the CPU.
        cores: what it may use of the processor.
    """

    gpu: str | None
    cores: tuple[int, ...]

    @property
    def words(self) -> list[str]:
        """For the run's command line."""
        return [f"cores=[{','.join(map(str, self.cores))}]"]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Of the run's process: it sees one GPU, and draws on it too unless the user said where."""
        if self.gpu is None:
            return dict(inherited)
        drawing = {EGL_DEVICE: self.gpu} if self.gpu.isdigit() and EGL_DEVICE not in inherited else {}
        return {**inherited, "CUDA_VISIBLE_DEVICES": self.gpu, **drawing}


@dataclass
class _Job:
    run: PlannedRun
    attempt: int
    slot: Slot
    process: subprocess.Popen


def visible_gpus() -> list[str]:
    """The GPUs this process may use, by the names that `CUDA_VISIBLE_DEVICES` accepts."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = torch.cuda.device_count()
    return [name.strip() for name in named.split(",")][:number] if named else [str(i) for i in range(number)]


def slots(gpus: Sequence[str], cores: Sequence[int], runs_per_gpu: int, cores_per_run: int | None) -> list[Slot]:
    """Places for runs: `runs_per_gpu` on every GPU, or without GPUs one per group of cores.

    Args:
        gpus: their names; none to train on the CPU.
        cores: cores that may be used.
        runs_per_gpu: runs side by side on a GPU.
        cores_per_run: of each run; None shares all cores out among the places of the GPUs, or gives one.

    Raises:
        InvalidInput: if more cores are asked for than there are.
    """
    validation.integer("launcher.runs_per_gpu", runs_per_gpu)
    if cores_per_run is not None and validation.integer("launcher.cores_per_run", cores_per_run) > len(cores):
        raise validation.InvalidInput(
            f"launcher.cores_per_run must be at most {len(cores)}, the available cores, got {cores_per_run}"
        )
    number = len(gpus) * runs_per_gpu or len(cores) // (cores_per_run or 1)
    share = cores_per_run or max(1, len(cores) // number)
    # more places than cores: they share them in turn
    groups = [tuple(cores[(i * share + j) % len(cores)] for j in range(share)) for i in range(number)]
    return [Slot(gpus[i % len(gpus)] if gpus else None, groups[i]) for i in range(number)]


class LocalLauncher:
    """Runs that share this machine.

    Args:
        runs_per_gpu, cores_per_run: see `slots`.
        num_retries: further attempts of a run that was killed or met an error; it goes on from its checkpoint.
        use_gpus: whether there are places on GPUs.
    """

    def __init__(self, runs_per_gpu: int, cores_per_run: int | None, num_retries: int, use_gpus: bool = True) -> None:
        self._slots = slots(visible_gpus() if use_gpus else [], available_cores(), runs_per_gpu, cores_per_run)
        self._num_retries = validation.integer("launcher.num_retries", num_retries, minimum=0)

    @property
    def num_slots(self) -> int:
        """Runs at once."""
        return len(self._slots)

    def launch(self, logs: Mapping[PlannedRun, Path], say: Callable[[str], None], endings: Endings) -> None:
        """Train every run; one that fails keeps none of the others from their turn.

        Args:
            logs: the file that each run's output is added to, in the order in which they begin.
            say: told of every beginning and ending.
            endings: filled with each run's exit code as it ends.

        Raises:
            Stopped: when a signal has come. Then, and after any other error, all runs have been asked to write
                a checkpoint and have ended.
        """
        waiting, free, jobs = deque((run, 1) for run in logs), deque(self._slots), list[_Job]()
        signals = SignalHandler()
        with signals.installed():
            try:
                while waiting or jobs:
                    signals.check()
                    while waiting and free:
                        run, attempt = waiting.popleft()
                        jobs.append(_start(run, attempt, free.popleft(), logs[run]))
                        say(f"{run.name}: {'begins' if attempt == 1 else f'attempt {attempt}'}")
                    for job in self._ended(jobs, say, endings):
                        free.append(job.slot)
                        if self._deserves_another(job):
                            waiting.append((job.run, job.attempt + 1))
                    time.sleep(POLL_SECONDS)
            except BaseException:
                _stop(jobs, say, endings)
                raise

    def _ended(self, jobs: list[_Job], say: Callable[[str], None], endings: Endings) -> list[_Job]:
        """Take the jobs that have ended out of `jobs`."""
        ended = [job for job in jobs if job.process.poll() is not None]
        for job in ended:
            jobs.remove(job)
            endings[job.run] = job.process.returncode
            more = "; will be retried" if self._deserves_another(job) else ""
            say(f"{job.run.name}: {ending(job.process.returncode)}{more}")
        return ended

    def _deserves_another(self, job: _Job) -> bool:
        return job.process.returncode not in FINAL and job.attempt <= self._num_retries


def _start(run: PlannedRun, attempt: int, slot: Slot, log: Path) -> _Job:
    """Begin `run` in a process that no signal of this terminal reaches: it is asked to stop by us."""
    command = [sys.executable, "-m", "drq_sn.cli.train", *run.words, *slot.words]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=slot.environment(os.environ),
            start_new_session=True,
        )
    return _Job(run, attempt, slot, process)


def _stop(jobs: Sequence[_Job], say: Callable[[str], None], endings: Endings) -> None:
    """Ask all to write a checkpoint, and wait for them."""
    say(f"stopping: {number(len(jobs), 'run')} to write a checkpoint")
    for job in jobs:
        job.process.send_signal(signal.SIGTERM)
    for job in jobs:
        endings[job.run] = job.process.wait()


def ending(code: int | None) -> str:
    """What an exit code of `drq_sn.cli.train` means; None for a run that nobody has heard of."""
    if code is None:
        return "lost"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    meaning: dict[int, str] = {
        ExitCode.SUCCESS: "finished",
        ExitCode.INVALID_INPUT: "refused",
        ExitCode.DIVERGED: "training diverged",
        ExitCode.DISK_FULL: "the disk is full",
    }
    meaning |= dict.fromkeys((128 + number for number in (*SIGNALS, *LAUNCHER_SIGNALS)), "stopped, with a checkpoint")
    return meaning.get(code, f"failed with exit code {code}")
