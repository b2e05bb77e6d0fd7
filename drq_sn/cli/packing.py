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

from drq_sn import checks
from drq_sn.cli.errors import CRASHED, DISK_FULL, INVALID_INPUT
from drq_sn.cli.plan import PlannedRun
from drq_sn.cli.stopping import Stopped, StopRequest
from drq_sn.processor import available_cores

FINAL = {0, INVALID_INPUT, CRASHED, DISK_FULL}  # another attempt would end in the same way
POLL_SECONDS = 0.2


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
        """Of the run's process."""
        return {**inherited, **({"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu is not None else {})}


@dataclass
class _Job:
    run: PlannedRun
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
    checks.integer("launcher.runs_per_gpu", runs_per_gpu)
    if cores_per_run is not None and checks.integer("launcher.cores_per_run", cores_per_run) > len(cores):
        raise checks.InvalidInput(f"launcher.cores_per_run={cores_per_run}: accepted is up to {len(cores)}, the cores there are")
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
    """

    def __init__(self, runs_per_gpu: int, cores_per_run: int | None, num_retries: int) -> None:
        self._slots = slots(visible_gpus(), available_cores(), runs_per_gpu, cores_per_run)
        self._num_retries = checks.integer("launcher.num_retries", num_retries, minimum=0)

    @property
    def num_slots(self) -> int:
        """Runs at once."""
        return len(self._slots)

    def launch(self, runs: Sequence[PlannedRun], log_of: Callable[[PlannedRun], Path], say: Callable[[str], None]) -> None:
        """Train all `runs`; one that fails keeps none of the others from their turn.

        Args:
            runs: in the order in which they begin.
            log_of: the file that a run's output is added to.
            say: told of every beginning and ending.

        Raises:
            Stopped: when a signal has come; every run has written a checkpoint then.
        """
        waiting, free, jobs = deque((run, 0) for run in runs), deque(self._slots), dict[int, tuple[_Job, int]]()
        stop = StopRequest()
        with stop.listening():
            try:
                while waiting or jobs:
                    stop.check()
                    while waiting and free:
                        run, attempt = waiting.popleft()
                        job = _start(run, free.popleft(), log_of(run))
                        jobs[job.process.pid] = job, attempt
                        say(f"{run.name}: {'begins' if attempt == 0 else f'attempt {attempt + 1}'}")
                    for job, attempt in [entry for entry in jobs.values() if entry[0].process.poll() is not None]:
                        del jobs[job.process.pid]
                        free.append(job.slot)
                        again = job.process.returncode not in FINAL and attempt < self._num_retries
                        if again:
                            waiting.append((job.run, attempt + 1))
                        say(f"{job.run.name}: {ending(job.process.returncode)}{'; it will be tried again' if again else ''}")
                    time.sleep(POLL_SECONDS)
            except Stopped:
                _stop([job for job, _ in jobs.values()], say)
                raise


def _start(run: PlannedRun, slot: Slot, log: Path) -> _Job:
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
    return _Job(run, slot, process)


def _stop(jobs: Sequence[_Job], say: Callable[[str], None]) -> None:
    """Ask all to write a checkpoint, and wait for them."""
    say(f"stopping: {len(jobs)} runs write a checkpoint")
    for job in jobs:
        job.process.send_signal(signal.SIGTERM)
    for job in jobs:
        job.process.wait()


def ending(code: int) -> str:
    """What an exit code of `drq_sn.cli.train` means."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    meaning = {0: "finished", INVALID_INPUT: "refused", CRASHED: "learning crashed", DISK_FULL: "the disk is full"}
    return meaning.get(code, f"failed with exit code {code}")
