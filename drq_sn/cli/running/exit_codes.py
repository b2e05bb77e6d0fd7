"""How commands end."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from drq_sn.cli.running.signals import Stopped
from drq_sn.training.loop import LearningCrashed
from drq_sn.validation import InvalidInput

INVALID_INPUT, CRASHED, DISK_FULL, STALLED, INTERRUPTED = 2, 3, 4, 5, 130


@contextlib.contextmanager
def exit_on_invalid_input(stopping: bool = True) -> Iterator[None]:
    """Turn the ends that users meet into one line and an exit code of their own (README, "How a run ends").

    Args:
        stopping: whether signals are among them; else `Stopped` goes on to the caller.
    """
    try:
        yield
    except InvalidInput as error:
        _end(f"error: {error}", INVALID_INPUT)
    except LearningCrashed as error:
        _end(f"{error}; its last evaluation is carried forward; fresh=true starts over", CRASHED)
    except Stopped as stop:
        if not stopping:
            raise
        _end(f"{stop}; rerun the same command to resume", stop.exit_code)
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _end(
            f"error: {os.strerror(error.errno).lower()}; the last checkpoint is intact; free some disk space, "
            "then rerun the same command to resume",
            DISK_FULL,
        )


def _end(line: str, code: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(code)
