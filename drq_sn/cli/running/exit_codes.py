"""Exit codes of the commands, and the messages that go with them."""

from __future__ import annotations

import contextlib
import enum
import errno
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from drq_sn.cli.running.lock import RunDirectoryLost
from drq_sn.cli.running.signals import Interrupted, Stopped, interrupt_on_signals
from drq_sn.output import tolerate_broken_output
from drq_sn.runs.checkpoints import CheckpointsUnreadable
from drq_sn.runs.files import write_json
from drq_sn.runs.reader import RECORD, read_record
from drq_sn.runs.status import Status
from drq_sn.training.loop import TrainingDiverged
from drq_sn.types import SimulationDiverged
from drq_sn.validation import InvalidInput

MESSAGE_SECONDS = 5.0  # for the messages of a stalled process


class ExitCode(enum.IntEnum):
    """How a command ended; after a signal the code is 128 + its number."""

    SUCCESS = 0
    FAILED = 1
    INVALID_INPUT = 2
    DIVERGED = 3
    DISK_FULL = 4
    STALLED = 5
    INTERRUPTED = 130


RERUN = "rerun the same command"


@contextlib.contextmanager
def exit_on_expected_errors(remedy: str = RERUN) -> Iterator[None]:
    """Turn expected exceptions into one line on stderr and an exit code (docs/runs.md); broken output ends nothing.

    `remedy` is what resumes a run.
    """
    tolerate_broken_output()
    try:
        yield
    except InvalidInput as error:
        _exit(f"error: {error}", ExitCode.INVALID_INPUT)
    except TrainingDiverged as error:
        _exit(f"{error}; its last evaluation is carried forward; fresh=true starts over", ExitCode.DIVERGED)
    except (SimulationDiverged, CheckpointsUnreadable, RunDirectoryLost) as error:
        _exit(f"error: {error}", ExitCode.FAILED)
    except Stopped as stop:
        _exit(f"{stop}; {remedy} to resume", stop.exit_code)
    except Interrupted as error:
        _exit(str(error), error.exit_code)
    except KeyboardInterrupt:
        _exit("interrupted", ExitCode.INTERRUPTED)
    except TimeoutError as error:
        _exit(f"error: {error}; rerun the same command", ExitCode.FAILED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _exit(
            f"error: {os.strerror(error.errno).lower()}; the last checkpoint is intact; free some disk space, "
            f"then {remedy} to resume",
            ExitCode.DISK_FULL,
        )


def run_command(main: Callable[[], None]) -> None:
    """Run `main` of a command as a process of its own: a signal ends it with one line at any moment."""
    with exit_on_expected_errors(), interrupt_on_signals():
        main()


def _exit(line: str, code: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(code)


def exit_stalled(reason: str, run_dir: Path | None = None) -> None:
    """End this process because an environment hangs; stderr and the record of the run in `run_dir` have the reason."""
    # the hanging thread cannot be interrupted, and writing the messages may hang as well
    timer = threading.Timer(MESSAGE_SECONDS, os._exit, [ExitCode.STALLED])
    timer.daemon = True
    timer.start()
    try:
        print(f"error: {reason}; stack:", file=sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        if run_dir is not None:
            write_json(run_dir / RECORD, {**read_record(run_dir), "status": Status.FAILED, "error": reason})
    finally:
        os._exit(ExitCode.STALLED)
