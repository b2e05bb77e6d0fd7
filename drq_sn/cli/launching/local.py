"""Runs training processes in parallel on this machine, each pinned to a GPU and cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from drq_sn import validation
from drq_sn.cli.launching.job import ExitCodes, Job, describe_exit, limit_cpus
from drq_sn.cli.running.exit_codes import ExitCode
from drq_sn.cli.running.signals import SignalHandler
from drq_sn.envs.gl import EGL_DEVICE
from drq_sn.runs.progress import format_count
from drq_sn.training.limits import available_cores, num_available_cores

FINAL = {  # a retry would end in the same way
    ExitCode.SUCCESS,
    ExitCode.INVALID_INPUT,
    ExitCode.DIVERGED,
    ExitCode.DISK_FULL,
}
POLL_SECONDS = 0.2


class Slot(NamedTuple):
    """Resources of one run at a time."""

    gpu: str | None  # as `CUDA_VISIBLE_DEVICES` names it; None for a run on the CPU
    cores: tuple[int, ...]  # CPU cores of the run
    is_pinned: bool = True  # whether the run is pinned to them; if not, only their number counts

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Environment of the run's process: it sees one GPU, and renders on it unless the user chose another."""
        if self.gpu is None:
            return dict(inherited)
        rendering = {EGL_DEVICE: self.gpu} if self.gpu.isdigit() and EGL_DEVICE not in inherited else {}
        return {**inherited, "CUDA_VISIBLE_DEVICES": self.gpu, **rendering}

    def overrides(self, job: Job) -> tuple[str, ...]:
        """Arguments of the run's process."""
        if self.is_pinned:
            return (*job.overrides, f"cores=[{','.join(map(str, self.cores))}]")
        return limit_cpus(job, len(self.cores))


@dataclass
class _Attempt:
    job: Job
    number: int
    slot: Slot
    process: subprocess.Popen[bytes]


def visible_gpus() -> list[str]:
    """The GPUs this process may use, by the names that `CUDA_VISIBLE_DEVICES` accepts."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [name.strip() for name in names.split(",")][:count] if names else [str(i) for i in range(count)]


class LocalLauncher:
    """Runs jobs on this machine: several on each GPU, or without GPUs one per group of cores.

    Runs are pinned to cores, except under a CPU quota, which gives time on any core: containers with a quota each
    on one machine would otherwise choose the same cores.

    Args:
        runs_per_gpu: runs in parallel on each GPU.
        cores_per_run: CPU cores of each run; None divides the cores among the slots of the GPUs, or gives one.
        num_retries: retries of a run that was killed or failed with an error; it resumes from its checkpoint.
        gpus: GPUs to use, as `CUDA_VISIBLE_DEVICES` names them; None for all that this process sees.

    Raises:
        InvalidInput: for values out of range, or more cores than there are.
    """

    def __init__(
        self, runs_per_gpu: int, cores_per_run: int | None, num_retries: int, gpus: Sequence[str] | None = None
    ) -> None:
        self._gpus = visible_gpus() if gpus is None else gpus
        self._runs_per_gpu = validation.integer("launcher.runs_per_gpu", runs_per_gpu)
        self._num_retries = validation.integer("launcher.num_retries", num_retries, minimum=0)
        self._cores_per_run, cores, num_cores = cores_per_run, available_cores(), num_available_cores()
        self._cores, self._pins_runs = cores[:num_cores], num_cores == len(cores)
        if cores_per_run is not None and validation.integer("launcher.cores_per_run", cores_per_run) > len(self._cores):
            raise validation.InvalidInput(
                f"launcher.cores_per_run must be at most {len(self._cores)}, the available cores, got {cores_per_run}"
            )

    def slots(self, gpus: Sequence[str]) -> list[Slot]:
        """Slots on `gpus`, given by name, or on the CPU if there are none."""
        count = len(gpus) * self._runs_per_gpu or len(self._cores) // (self._cores_per_run or 1)
        share = self._cores_per_run or max(1, len(self._cores) // count)
        cores = deque(self._cores)
        slots = []
        for i in range(count):  # with more slots than cores, slots share cores
            slots.append(Slot(gpus[i % len(gpus)] if gpus else None, tuple(cores)[:share], self._pins_runs))
            cores.rotate(-share)
        return slots

    def launch(self, jobs: Sequence[Job], say: Callable[[str], None], exit_codes: ExitCodes) -> None:
        """See `Launcher.launch`; when this raises, all runs have written a checkpoint and ended."""
        free = deque(self.slots([] if any("device=cpu" in job.overrides for job in jobs) else self._gpus))
        waiting, running = deque((job, 1) for job in jobs), list[_Attempt]()
        say(f"up to {format_count(len(free), 'run')} at once")
        signals = SignalHandler()
        with signals.installed():
            try:
                while waiting or running:
                    signals.check()
                    while waiting and free:
                        job, attempt = waiting.popleft()
                        running.append(_start(job, attempt, free.popleft()))
                        say(f"{job.name}: {'started' if attempt == 1 else f'attempt {attempt} started'}")
                    for ended in [one for one in running if one.process.poll() is not None]:
                        running.remove(ended)
                        free.append(ended.slot)
                        exit_codes[ended.job] = code = ended.process.returncode
                        retry = code not in FINAL and ended.number <= self._num_retries
                        say(f"{ended.job.name}: {describe_exit(code)}{'; will be retried' if retry else ''}")
                        if retry:
                            waiting.append((ended.job, ended.number + 1))
                    time.sleep(POLL_SECONDS)
            except BaseException:
                say(f"stopping: {format_count(len(running), 'run')} to write a checkpoint")
                for stopped in running:
                    stopped.process.send_signal(signal.SIGTERM)
                for stopped in running:
                    exit_codes[stopped.job] = stopped.process.wait()
                raise


def _start(job: Job, attempt: int, slot: Slot) -> _Attempt:
    """Start `job` in a session of its own, so that a terminal's Ctrl-C reaches the launcher only."""
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "drq_sn.cli.train", *slot.overrides(job)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=slot.environment(os.environ),
            start_new_session=True,
        )
    return _Attempt(job, attempt, slot, process)
