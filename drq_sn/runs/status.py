"""Status of a run, as recorded in `run.json`."""

from __future__ import annotations

import enum


class Status(str, enum.Enum):
    """Status of a run; `WAITING` and `UNKNOWN` are used where `run.json` has none."""

    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    WAITING = "waiting"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def _missing_(cls, value: object) -> Status:
        """`crashed`, which older versions wrote, means diverged."""
        return cls.DIVERGED if value == "crashed" else cls.UNKNOWN

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to do for the run."""
        return self in (Status.FINISHED, Status.DIVERGED)
