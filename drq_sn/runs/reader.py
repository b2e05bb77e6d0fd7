"""Readers of run directories: which directories are runs, their records and their CSV files."""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drq_sn.validation import InvalidInput, first_line

CONFIG, RECORD = "config.yaml", "run.json"
EVAL, TRAIN, DIAGNOSTICS = "eval.csv", "train.csv", "diagnostics.csv"
MAX_DIGITS = 18  # of integers in `run.json`; longer ones are read as floats
NOT_SEARCHED = {"checkpoint", "video", "wandb"}
BACKUP = re.compile(r"(.+)\.\d+")  # where `fresh=true` moves an older run
NOT_FOLLOWED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # flags: no symbolic links; named pipes do not block
VALID = "give a run directory, a directory above runs, or a pattern such as runs/cartpole_balance/*"


@dataclass(frozen=True)
class Log:
    """A CSV file with a column `frame`; empty if the file does not exist."""

    path: Path  # the file
    frames: Sequence[float] = ()  # of every row
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)  # name -> a text per row, or ""
    lines: Sequence[int] = ()  # line number of every row
    damage: str = ""  # what of the file could not be read; empty if nothing

    def rows(self, columns: str) -> Iterator[tuple[float, list[float]]]:
        """Frame and values of each row with a value in `columns`: one column, or a prefix that ends in a dot.

        Raises:
            InvalidInput: for a cell that is not a number.
        """
        names = [name for name in self.columns if name.startswith(columns)] if columns.endswith(".") else [columns]
        selected = [self.columns[name] for name in names if name in self.columns]
        for row, frame in enumerate(self.frames):
            cells = [column[row] for column in selected if column[row]]
            if cells:
                yield frame, [self._number(row, cell) for cell in cells]

    def series(self, column: str) -> dict[float, float]:
        """Frame -> value of `column`; the last of several rows with one frame counts."""
        return {frame: value for frame, (value,) in self.rows(column)}

    def _number(self, row: int, cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            raise InvalidInput(f"{self.path}, line {self.lines[row]}: {cell!r} is not a number") from None


def find_runs(patterns: Sequence[str]) -> list[Path]:
    """Run directories, each once, in the order of `patterns`: these, directories above them, or globs of either.

    Raises:
        InvalidInput: for a pattern without runs.
    """
    runs: dict[Path, Path] = {}
    for pattern in patterns:
        try:
            directories = _directories(pattern)
        except (OSError, RuntimeError) as error:  # a name that is too long, the home of an unknown user
            raise InvalidInput(f"runs={pattern!r}: {first_line(error)}; {VALID}") from None
        matches = [run for directory in directories for run in _search(directory)]
        if not matches:
            reason = "holds no run" if directories else "matches no directory"
            raise InvalidInput(f"runs={pattern!r}: {reason}; {VALID}")
        for run in matches:
            runs.setdefault(run.resolve(), run)
    return list(runs.values())


def _directories(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.exists():
        return [path] if path.is_dir() else []
    matches = (Path(match) for match in sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207, absolute patterns
    return [match for match in matches if match.is_dir() and not _is_backup(match)]


def _search(directory: Path) -> Iterator[Path]:
    for place, names, files in os.walk(directory):
        if CONFIG in files:
            yield Path(place)
        visible = (name for name in names if name not in NOT_SEARCHED and not name.startswith("."))
        names[:] = sorted(name for name in visible if not _is_backup(Path(place) / name))


def _is_backup(directory: Path) -> bool:
    """Whether `directory` is an older run that `fresh=true` moved out of the way of a newer one."""
    match = BACKUP.fullmatch(directory.name)
    return match is not None and (directory.with_name(match[1]) / CONFIG).is_file()


def read_record(run_dir: Path) -> dict[str, Any]:
    """The contents of `run.json`, with control characters escaped; empty if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        text = (run_dir / RECORD).read_text()
        record = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= MAX_DIGITS else float(digits))
        if isinstance(record, dict):
            return dict(_escape(record))
    return {}


def _escape(node: Any) -> Any:
    """`node` with strings that a terminal and UTF-8 can show; tabs and line ends stay."""
    if isinstance(node, str):
        return "".join(c if c.isprintable() or c in "\t\n" else ascii(c)[1:-1] for c in node)
    if isinstance(node, dict):
        return {_escape(name): _escape(value) for name, value in node.items()}
    return [_escape(child) for child in node] if isinstance(node, list) else node


def read_logs(run_dir: Path) -> dict[str, Log]:
    """The run's CSV files by name; see `read_log`."""
    return {name: read_log(run_dir / name) for name in (EVAL, TRAIN, DIAGNOSTICS)}


def read_log(path: Path) -> Log:
    """Read a CSV file of a run up to its last whole row; half a line or NUL bytes, left by a crash, end it.

    A symbolic link is not followed: the log is then empty.

    Raises:
        InvalidInput: naming the file, and the line where possible, if it is not a log of a run.
    """
    text, damage = _read_lines(path)
    if not text:
        return Log(path, damage=damage)
    import pandas as pd  # slow to import

    try:
        table = pd.read_csv(io.StringIO(text), header=None, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InvalidInput(f"{path}: not readable as CSV ({str(error).strip()})") from None
    names = [str(name) for name in table.iloc[0]]
    if "frame" not in names:
        raise InvalidInput(f"{path}, line 1: no column 'frame'; it is not a file that a run wrote")
    if len(set(names)) < len(names):
        raise InvalidInput(f"{path}, line 1: columns must have different names")
    table = table.iloc[1:].set_axis(names, axis="columns")
    table = table[(table != "").any(axis="columns")]
    lines = [int(index) + 1 for index in table.index]
    frames = [_read_frame(path, *row) for row in zip(lines, table["frame"], strict=True)]
    return Log(path, frames, {name: table[name].tolist() for name in names}, lines, damage)


def read_file(path: Path) -> bytes:
    """Content of a regular file; symbolic links are not followed.

    Raises:
        OSError: if it is anything else, missing or unreadable; ELOOP for a symbolic link.
    """
    descriptor = os.open(path, os.O_RDONLY | NOT_FOLLOWED)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _read_lines(path: Path) -> tuple[str, str]:
    """All whole lines of `path`, and what of it is damaged; empty if it does not exist."""
    try:
        data = read_file(path)
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "", f"{path} is a symbolic link, which is not followed"
        raise InvalidInput(f"{path}: not readable ({error.strerror})") from None
    before, nul, _ = data.partition(b"\0")
    whole = before[: before.rfind(b"\n") + 1]
    line, damage = whole.count(b"\n") + 1, ""
    if nul or before != whole:
        damage = f"{path}, line {line}: {'NUL bytes' if nul else 'half a row'}; read up to the row before"
    try:
        return whole.decode(), damage
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}, line {line}: not readable as text ({error.reason})") from None


def _read_frame(path: Path, line: int, cell: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (frame := float(cell)) < math.inf:
            return frame
    raise InvalidInput(f"{path}, line {line}: frame must be a number >= 0, got {cell!r}")
