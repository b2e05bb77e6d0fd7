"""Runs training on a Ray cluster or in a Slurm queue (through submitit)."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drq_sn import validation
from drq_sn.cli.config.overrides import take_directories
from drq_sn.cli.config.search_path import directories_in_use
from drq_sn.cli.launching.grid import compose_run
from drq_sn.cli.launching.job import ExitCodes, Job, describe_exit, limit_cpus
from drq_sn.cli.running.exit_codes import ExitCode, exit_on_expected_errors
from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import SIGNALED, SignalHandler
from drq_sn.runs.progress import format_count
from drq_sn.training.limits import num_available_cores

POLL_SECONDS = 1.0
CHECKPOINT_SECONDS = 180.0  # longest wait for runs on Ray to write a checkpoint after a stop signal


@dataclass(frozen=True)
class RemoteRun:
    """A training run as a callable that is pickled and called on another machine."""

    overrides: tuple[str, ...]  # command-line arguments of `drq_sn.cli.train`
    log: Path  # file that its output is appended to
    directory: Path  # working directory; it and `log` are on a file system that all machines share

    def __call__(self) -> int:
        """Train in this process and return the exit code, so that a failure never looks like a lost worker.

        A run that was stopped by a signal has written a checkpoint; the signal is then raised again for the scheduler's
        own handler: a Ray worker exits and its task is retried, submitit requeues the job.
        """
        os.chdir(self.directory)
        with self.log.open("ab") as log:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = 0
        try:
            overrides, directories = take_directories(self.overrides)
            with exit_on_expected_errors(), directories_in_use(directories):
                run(compose_run(overrides))
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:  # whatever it is: a job that raises would be reported as lost
            traceback.print_exc()
            code = int(ExitCode.FAILED)
        if code > SIGNALED:
            signal.raise_signal(code - SIGNALED)
        return code

    def checkpoint(self) -> Any:
        """What submitit requeues: this same run, which resumes from its checkpoint."""
        return importlib.import_module("submitit").helpers.DelayedSubmission(self)


class RayLauncher:
    """Runs jobs as Ray tasks, each in a fresh worker process.

    Args:
        address: Ray cluster to join, `auto` or `HOST:PORT`; None starts Ray on this machine for the sweep.
        num_cpus: CPU cores of each run, also its number of threads and evaluation processes unless the run sets those.
        num_gpus: GPUs of each run, or a fraction of one; None takes one if this machine has any, else none.
        max_retries: retries of a run whose worker died; it resumes from its checkpoint.

    Raises:
        InvalidInput: for values out of range or missing packages.
    """

    def __init__(self, address: str | None, num_cpus: int, num_gpus: float | None, max_retries: int) -> None:
        available_gpus = torch.cuda.device_count()
        if num_gpus is None:
            if address is not None:
                raise validation.InvalidInput("launcher.num_gpus must be a number with launcher.address, got None")
            num_gpus = min(1, available_gpus)
        if validation.real("launcher.num_gpus", num_gpus, 0) > 1:
            validation.integer("launcher.num_gpus", num_gpus)
        validation.integer("launcher.num_cpus", num_cpus)
        if address is None:  # or Ray would wait forever
            validation.real("launcher.num_cpus", num_cpus, 1, num_available_cores())
            validation.real("launcher.num_gpus", num_gpus, 0, available_gpus)
        self._address, self._num_cpus, self._num_gpus = address, num_cpus, num_gpus
        self._max_retries = validation.integer("launcher.max_retries", max_retries, minimum=0)
        validation.extra_installed("ray", ("ray",))
        self._ray = importlib.import_module("ray")

    def launch(self, jobs: Sequence[Job], say: Callable[[str], None], exit_codes: ExitCodes) -> None:
        """See `Launcher.launch`; when this raises, runs have been asked to write a checkpoint."""
        ray = self._ray
        self._connect()
        options = {"num_cpus": self._num_cpus, "num_gpus": self._num_gpus, "max_retries": self._max_retries}
        task = ray.remote(max_calls=1, **options)(RemoteRun.__call__)
        signals = SignalHandler()
        pending: dict[Any, Job] = {}
        try:
            with signals.installed():
                for job in jobs:
                    remote_run = RemoteRun(limit_cpus(job, self._num_cpus), job.log.absolute(), Path.cwd())
                    pending[task.remote(remote_run)] = job
                while pending:
                    signals.check()
                    for ref in ray.wait(list(pending), timeout=POLL_SECONDS)[0]:
                        try:
                            code, error = ray.get(ref), None
                        except ray.exceptions.RayError as lost:
                            code, error = None, lost
                        _end(pending.pop(ref), code, error, say, exit_codes)
        except BaseException:
            say(f"stopping: {format_count(len(pending), 'run')} to write a checkpoint or to leave the queue")
            for ref in pending:
                ray.cancel(ref)
            ray.wait(list(pending), num_returns=len(pending), timeout=CHECKPOINT_SECONDS)
            raise
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default; else it warns
        local = {"num_cpus": num_available_cores(), "include_dashboard": False} if self._address is None else {}
        try:
            self._ray.init(address=self._address or "local", logging_level="error", log_to_driver=False, **local)
        except ConnectionError as error:
            reason = validation.first_line(error)
            raise validation.InvalidInput(
                f"launcher.address must be a Ray cluster, got {self._address!r}: {reason}"
            ) from None


class SlurmLauncher:
    """Runs jobs as one Slurm job array, submitted from this machine through submitit.

    Args:
        submitit_folder: where submitit keeps its files, on a file system that all machines share.
        max_num_timeout: how often a job is requeued at its time limit; after preemption it always is.
        timeout_min: time limit of a job, in minutes.
        signal_delay_s: how long before the time limit a job is signaled, in seconds.
        gpus_per_node: GPUs of each run.
        parameters: other parameters of submitit's `SlurmExecutor`; None leaves one unset.

    Raises:
        InvalidInput: for values out of range, missing packages, or a machine without Slurm.
    """

    def __init__(
        self,
        submitit_folder: str,
        max_num_timeout: int,
        timeout_min: int,
        signal_delay_s: int,
        gpus_per_node: int,
        **parameters: Any,
    ) -> None:
        validation.integer("launcher.max_num_timeout", max_num_timeout, minimum=0)
        validation.integer("launcher.timeout_min", timeout_min)
        validation.integer("launcher.signal_delay_s", signal_delay_s, maximum=60 * timeout_min - 1)
        validation.integer("launcher.gpus_per_node", gpus_per_node, minimum=0)
        for name in ("cpus_per_task", "array_parallelism"):
            validation.integer(f"launcher.{name}", parameters[name])
        validation.real("launcher.mem_gb", parameters["mem_gb"], 0, open_low=True)
        validation.extra_installed("slurm", ("submitit",))
        submitit = importlib.import_module("submitit")
        parameters |= {
            "timeout_min": timeout_min,
            "signal_delay_s": signal_delay_s,
            "gpus_per_node": gpus_per_node or None,
        }
        try:
            self._executor = submitit.AutoExecutor(submitit_folder, "slurm", slurm_max_num_timeout=max_num_timeout)
            self._executor.update_parameters(**{f"slurm_{name}": value for name, value in parameters.items()})
        except (AssertionError, NameError, RuntimeError) as error:  # a wrong type, an unknown parameter, no srun
            raise validation.InvalidInput(f"launcher=slurm: {validation.first_line(error)}") from None

    def launch(self, jobs: Sequence[Job], say: Callable[[str], None], exit_codes: ExitCodes) -> None:
        """See `Launcher.launch`; after a signal, the jobs stay in the queue."""
        runs = [RemoteRun(job.overrides, job.log.absolute(), Path.cwd()) for job in jobs]
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints sbatch's message, too
                pending = dict(zip(self._executor.submit_array(runs), jobs, strict=True))
        except RuntimeError as error:
            reason = str(error).strip() or "sbatch failed without a message"
            raise validation.InvalidInput(f"launcher=slurm: {reason.splitlines()[-1]}") from error
        say(f"submitted as {', '.join(job.job_id for job in pending)}")
        signals = SignalHandler()
        with signals.installed():
            while pending:
                for ended in [job for job in pending if job.done()]:
                    failure = ended.exception()
                    _end(pending.pop(ended), None if failure else ended.result(), failure, say, exit_codes)
                signals.check()
                time.sleep(POLL_SECONDS)


def _end(
    job: Job, code: int | None, error: Exception | None, say: Callable[[str], None], exit_codes: ExitCodes
) -> None:
    """Record how `job` ended; `error` is why it was lost, if it was."""
    exit_codes[job] = code
    reason = f": {validation.first_line(error)}" if error else ""
    say(f"{job.name}: {describe_exit(code)}{reason}")
