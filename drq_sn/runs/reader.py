"""What runs left on disk, to be read again: which folders are runs, and their CSV files cell by cell."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drq_sn.runs.status import Status
from drq_sn.validation import InvalidInput

CONFIG, RECORD = "config.yaml", "run.json"
RUNNING, FINISHED, CRASHED = Status.RUNNING, Status.FINISHED, Status.DIVERGED
INTERRUPTED, FAILED = Status.INTERRUPTED, Status.FAILED
EVAL, TRAIN, DIAGNOSTICS = "eval.csv", "train.csv", "diagnostics.csv"
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there
NOT_SEARCHED = {"checkpoint", "video"}
ASIDE = re.compile(r"(.+)(\.\d+)")  # where `fresh=true` moved an older run
VALID = "give a run directory, a directory above runs, or a pattern such as runs/cartpole_balance/*"


@dataclass(frozen=True)
class Log:
    """A CSV file with a column `frame`.

    Attributes:
        path: the file.
        rows: line number, frame, and the cells by column.
    """

    path: Path
    rows: Sequence[tuple[int, float, dict[str, str]]]

    def values(self, columns: str) -> Iterator[tuple[float, list[float]]]:
        """Frame and the numbers that stand there in `columns`: one column, or all that start so if it ends in a dot.

        Rows where these cells are empty or missing are passed over.

        Raises:
            InvalidInput: for a cell that is no number.
        """
        for line, frame, row in self.rows:
            names = [name for name in row if name.startswith(columns)] if columns.endswith(".") else [columns]
            cells = [cell for name in names if (cell := row.get(name, ""))]
            if cells:
                yield frame, [self._number(line, cell) for cell in cells]

    def _number(self, line: int, cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            raise InvalidInput(f"{self.path}, line {line}: {cell!r} is not a number") from None


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    Attributes:
        folder: where it lies.
        task: what it trained on.
        seed: its seed.
        status: `finished`, `running`, `interrupted`, `diverged`, `failed`, or `unknown`.
        logs: name of a file -> what it holds; files that are not there are missing here.
    """

    folder: Path
    task: str
    seed: int
    status: Status
    logs: dict[str, Log]

    @property
    def label(self) -> str:
        """What the runs that differ in nothing but their seed share: task and folder above `seed_N`, or the folder's name."""
        folder = Path(os.path.abspath(self.folder))
        aside = ASIDE.fullmatch(folder.name)
        return (
            f"{self.task} {folder.parent.name}{aside[2] if aside else ''}"
            if folder.name.startswith("seed_")
            else folder.name
        )

    @property
    def place(self) -> Path:
        """Folder of the folder that `label` names."""
        return self.folder.parent.parent if self.folder.name.startswith("seed_") else self.folder.parent

    @property
    def last_frame(self) -> float:
        """The last frame that any file has a row for."""
        return max((frame for log in self.logs.values() for _, frame, _ in log.rows), default=0.0)


def find_runs(patterns: Sequence[str]) -> list[Path]:
    """Folders of runs, each once, in the order of `patterns`.

    Args:
        patterns: folders of runs, folders above them, or globs of either.

    Raises:
        InvalidInput: for a pattern without runs.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        folders = _folders(pattern)
        runs = [run for folder in folders for run in _search(folder)]
        if not runs:
            reason = "holds no run" if folders else "matches no folder"
            raise InvalidInput(f"runs={pattern!r}: {reason}; {VALID}")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _folders(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.exists():
        return [path] if path.is_dir() else []
    matches = (Path(match) for match in sorted(glob.glob(str(path), recursive=True)))
    return [match for match in matches if match.is_dir() and not _is_aside(match)]


def _search(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        if CONFIG in files:
            yield Path(place)
        visible = (name for name in folders if name not in NOT_SEARCHED and not name.startswith("."))
        folders[:] = sorted(name for name in visible if not _is_aside(Path(place) / name))


def _is_aside(folder: Path) -> bool:
    """Whether `folder` is an older run that `fresh=true` moved out of the way of a newer one."""
    match = ASIDE.fullmatch(folder.name)
    return match is not None and folder.with_name(match[1]).is_dir()


def read_run(folder: Path) -> Run:
    """Read the run in `folder`; `InvalidInput` names a file that can't be read, and the line."""
    options = _read_config(folder / CONFIG)
    logs = {name: read_log(folder / name) for name in (EVAL, TRAIN, DIAGNOSTICS) if (folder / name).is_file()}
    return Run(folder, str(options["task"]), options["seed"], Status(read_record(folder).get("status")), logs)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        options = yaml.load(path.read_text(), YAML_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(options, dict) or "task" not in options or not isinstance(options.get("seed"), int):
        raise InvalidInput(f"{path} names no task and seed; it is not a file that a run wrote")
    return options


def read_record(folder: Path) -> dict[str, Any]:
    """What `run.json` in `folder` says; nothing where it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((folder / RECORD).read_text())
        if isinstance(record, dict):
            return record
    return {}


def read_log(path: Path) -> Log:
    """Read a CSV file that a run wrote, or is writing: a last line that is not ended yet is passed over."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        fields = next(reader, [])
        if fields and "frame" not in fields:
            raise InvalidInput(f"{path}, line 1: no column 'frame'; it is not a file that a run wrote")
        return Log(path, [_row(path, reader.line_num, fields, cells) for cells in reader if cells])
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from None


def _read_text(path: Path) -> str:
    """All lines of `path` that are ended."""
    try:
        data = path.read_bytes()
        return data[: data.rfind(b"\n") + 1].decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}, line {line}: not readable as text ({error.reason})") from None
    except OSError as error:
        raise InvalidInput(f"{path}: not readable ({error.strerror})") from None


def _row(path: Path, line: int, fields: Sequence[str], cells: Sequence[str]) -> tuple[int, float, dict[str, str]]:
    if len(cells) != len(fields):
        raise InvalidInput(f"{path}, line {line}: {len(cells)} cells under {len(fields)} columns")
    row = dict(zip(fields, cells, strict=True))
    with contextlib.suppress(ValueError):
        if 0 <= (frame := float(row["frame"])) < math.inf:
            return line, frame, row
    raise InvalidInput(f"{path}, line {line}: frame must be a number >= 0, got {row['frame']!r}")
