"""CSV files of a run, whose rows survive what other programs do to the files."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from drq_sn.runs.files import write_atomically
from drq_sn.runs.reader import NOT_FOLLOWED, read_file

ROWS = re.compile(rb"[\d.,+\-aefin\n]*")  # numbers, nan and inf: rows, the last one perhaps cut off

Signature = tuple[int, int, int, int]


class CsvLog:
    """CSV file with all rows on disk after every write.

    The rows are also kept in memory. Before a row is appended, the file must be as this process left it. If another
    program has changed, truncated, replaced or removed it, all rows are written again, with a warning. A file that
    holds anything else than these rows, and a symbolic link, is kept as `{name}.backup-{number}`.

    Args:
        path: the file.
        fields: names of its columns.
        text: content at the checkpoint if a run is resumed; later rows are dropped. By default the header.

    Raises:
        OSError: here and in every method, if the disk is full or fails.
    """

    def __init__(self, path: Path, fields: Sequence[str], text: str | None = None) -> None:
        self._path = path
        self._signature: Signature | None = None  # of the file as this process left it
        self._writer = csv.DictWriter(_Echo(), fields, restval="", lineterminator="\n")
        self._content = bytearray((self._writer.writeheader() if text is None else text).encode())
        if text is None and not os.path.lexists(path):
            with path.open("xb") as file:
                file.write(self._content)
        else:
            found = _read(path)
            if found and found.startswith(self._content) and ROWS.fullmatch(found, len(self._content)):
                os.truncate(path, len(self._content))  # a resumed run writes the later rows again
        self._restore()

    @property
    def text(self) -> str:
        """Everything written so far."""
        return self._content.decode()

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row; missing fields stay empty, unknown ones raise `ValueError`."""
        line = self._writer.writerow(row).encode()
        if not self._append(line):
            self._restore()
            if not self._append(line, is_restored=True):
                self._signature = None  # the next call writes all rows
        self._content += line

    def close(self) -> None:
        """Make sure that the file holds all rows."""
        self._restore()

    def _append(self, line: bytes, is_restored: bool = False) -> bool:
        """Append `line` if the file can be opened and is as this process left it, or has just been restored."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | NOT_FOLLOWED)
        except OSError:
            return False
        try:
            before = os.fstat(descriptor)
            # of a file that has just been compared, only the size counts: not every file system has stable inodes
            if before.st_size != len(self._content) if is_restored else _signature(before) != self._signature:
                return False
            try:
                while line:
                    line = line[os.write(descriptor, line) :]
            except OSError:
                os.ftruncate(descriptor, before.st_size)  # no half row on a full disk
                raise
            self._signature = _signature(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        return True

    def _restore(self) -> None:
        """Write the whole file, with a warning, unless it holds exactly the content."""
        signature = _sign(self._path)
        if signature is None or signature != self._signature:
            found = _read(self._path)
            if found != bytes(self._content):
                self._replace(found)
            self._signature = _sign(self._path)

    def _replace(self, found: bytes | None) -> None:
        """Write the whole file; `found` is what it holds now, None if it is missing or cannot be read."""
        backup, change = None, "lost rows"
        if not os.path.lexists(self._path):
            change = "disappeared"
        elif found is None or not self._content.startswith(found):
            names = (self._path.with_name(f"{self._path.name}.backup-{number}") for number in itertools.count(1))
            backup = next(name for name in names if not os.path.lexists(name))
            change = "is a symbolic link" if self._path.is_symlink() else "was changed"
            self._path.rename(backup)
        try:
            write_atomically(self._path, bytes(self._content))
        except OSError:
            if backup:
                backup.rename(self._path)
            raise
        kept = f" and kept as {backup.name}" if backup else ""
        warnings.warn(f"{self._path} {change}{kept}; its rows have been written again", stacklevel=4)


class _Echo:
    """Makes `csv.DictWriter` return lines instead of writing them."""

    def write(self, line: str) -> str:
        """Return `line`."""
        return line


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return read_file(path)
    return None


def _sign(path: Path) -> Signature | None:
    with contextlib.suppress(OSError):
        return _signature(path.lstat())
    return None


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
