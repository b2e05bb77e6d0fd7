"""Loggers: `CsvLogger`, and `NullLogger`, a base class that does nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from drq_sn.runs.csv_log import CsvLog
from drq_sn.types import RunInfo


class NullLogger:
    """Logs nothing; a base class for loggers that need not all methods."""

    def start(self, run: RunInfo) -> None:
        """Do nothing."""

    def log(self, table: str, row: Mapping[str, float]) -> None:
        """Do nothing."""

    def video(self, path: Path, frames: np.ndarray, frame: int) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self, success: bool | None) -> None:
        """Do nothing."""


class CsvLogger(NullLogger):
    """`train.csv`, `eval.csv` and `diagnostics.csv`: a row per episode and per evaluation.

    Args:
        texts: table -> content of its file at the checkpoint, if a run is resumed.
    """

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self._earlier = texts
        self._files: dict[str, CsvLog] = {}

    def start(self, run: RunInfo) -> None:
        """Create the files."""
        for table, columns in run.columns.items():
            self._files[table] = CsvLog(run.run_dir / f"{table}.csv", columns, self._earlier.get(table))

    def log(self, table: str, row: Mapping[str, float]) -> None:
        """Append a row to the file of `table`."""
        self._files[table].write(row)

    @property
    def texts(self) -> dict[str, str]:
        """Table -> everything written so far."""
        return {table: file.text for table, file in self._files.items()}

    def close(self, success: bool | None) -> None:  # noqa: ARG002, part of the protocol
        """Complete the files."""
        with contextlib.ExitStack() as stack:  # completes all, whichever fails
            for file in reversed(self._files.values()):
                stack.callback(file.close)
