"""What the launchers share: jobs, the interface, and what exit codes mean."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from drq_sn.cli.running.exit_codes import ExitCode
from drq_sn.cli.running.signals import SIGNALED

CPU_OPTIONS = ("num_threads", "num_eval_processes")


class Job(NamedTuple):
    """One training run as a launcher sees it."""

    name: str  # short name for messages
    overrides: tuple[str, ...]  # command-line arguments of `drq_sn.cli.train`
    log: Path  # file that the run's output is appended to
    sets_cpus: tuple[str, ...] = ()  # those of `CPU_OPTIONS` that its configuration sets


ExitCodes = dict[Job, "int | None"]
"""Job -> exit code of its training; None if its process or worker was lost."""


class Launcher(Protocol):
    """Runs jobs somewhere. Launchers are built from cfg/launcher and check their own options."""

    def launch(self, jobs: Sequence[Job], say: Callable[[str], None], exit_codes: ExitCodes) -> None:
        """Train every job and return when all have ended; a failing job does not stop the others.

        Args:
            jobs: in the order in which they start.
            say: prints one line of progress.
            exit_codes: filled in as jobs end.

        Raises:
            InvalidInput: if the jobs cannot be started with these options.
            Stopped: after SIGINT, SIGTERM or SIGHUP.
        """


def limit_cpus(job: Job, num_cpus: int) -> tuple[str, ...]:
    """The overrides of `job` with as many threads and evaluation processes as `num_cpus`, unless it sets their number.

    For a run that shares its cores with others.
    """
    return (*job.overrides, *(f"{name}={num_cpus}" for name in CPU_OPTIONS if name not in job.sets_cpus))


def describe_exit(code: int | None) -> str:
    """What an exit code of `drq_sn.cli.train` means."""
    if code is None:
        return "lost (no exit status)"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    meanings: dict[int, str] = {
        ExitCode.SUCCESS: "finished",
        ExitCode.INVALID_INPUT: "refused",
        ExitCode.DIVERGED: "training diverged",
        ExitCode.DISK_FULL: "disk full",
    }
    meanings |= {SIGNALED + number: f"stopped by {number.name}" for number in signal.Signals}
    return meanings.get(code, f"failed with exit code {code}")
