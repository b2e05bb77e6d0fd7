"""Checkpoints of a run: written incrementally, verified on reading; the last complete one is never at risk.

The directory `checkpoint/` holds, per checkpoint, a manifest `{step}.json` (written last, it makes the
checkpoint valid) and `{step}.pt` with everything but the replay's slots. The slots are in parts
`replay_{first}_{end}.npz`, each written once and shared by later checkpoints, so that the cost of a
checkpoint is that of the new slots only. Manifests have size and SHA-256 of every file they refer to.
The newest two checkpoints are kept. Other files in the directory are left alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from drq_sn.runs.files import load_safely, to_bytes, write_atomically, write_json
from drq_sn.training.replay import UniformReplay
from drq_sn.validation import InvalidInput, describe

FOLDER = "checkpoint"
FORMAT = 1  # of manifests
NUM_KEPT = 2
PART_SLOTS = 4096  # slots per file; bounds the memory of a copy
DIVERGED = "diverged.pt"
OWN_FILE = re.compile(r"(\d{9,}\.(json|pt)|replay_\d{9,}_\d{9,}\.npz)|\..+\.\d+")  # the last: a write cut short
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # of manifests with any content
NOT_THERE = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP}  # other errors may be those of the disk


class CheckpointsUnreadable(Exception):
    """There are checkpoints, but the file system gives none of them; nothing is known about their contents."""


class Checkpoint(NamedTuple):
    """A checkpoint read from disk."""

    step: int  # environment step that is next
    state: dict[str, Any]  # everything but the replay's slots
    parts: list[str]  # file names of the intact parts of the replay, in order


class CheckpointStore:
    """The checkpoints of the run in `run_dir`."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / FOLDER
        self._parts: dict[str, dict[str, Any]] = {}
        self.saved_slots = 0  # end of the replay's slots on disk
        self._saved_step: int | None = None
        self._damaged: set[str] = set()  # manifests that could not be read
        self.bytes_written = 0

    def save(self, step: int, state: dict[str, Any], replay: UniformReplay) -> None:
        """Write a checkpoint; until it is complete, the previous one stays the newest.

        Raises:
            OSError: if the disk is full or fails; earlier checkpoints are intact.
        """
        if step == self._saved_step:
            return  # already on disk; rewriting would put it at risk
        self.folder.mkdir(exist_ok=True)
        self.bytes_written = 0
        self._write_new_slots(replay)
        name = f"{step:09d}.pt"
        entry = self._write(name, to_bytes(state))
        self._parts = {part: e for part, e in self._parts.items() if e["end"] > replay.oldest_slot}
        body = {"format": FORMAT, "step": step, "files": {name: entry}, "replay": self._parts}
        write_json(self.folder / f"{step:09d}.json", {"sha256": _digest(body), "body": body})
        self._saved_step = step
        self._damaged.discard(f"{step:09d}.json")
        self._prune(step)

    def newest(self) -> Checkpoint | None:
        """Read the newest intact checkpoint, with a warning for each damaged or unreadable one; None without any.

        Raises:
            InvalidInput: for a newer format, or a file whose loading would execute code.
            CheckpointsUnreadable: if none is left after an input/output error.
        """
        disk_error: OSError | None = None
        for path in self._manifests():
            try:
                return self._read(path)
            except InvalidInput:
                raise
            except OSError as error:
                problem = f"unreadable ({error.strerror})"
                disk_error = disk_error if error.errno in NOT_THERE else error
            except DAMAGE as error:
                problem = f"damaged ({error})"
            self._damaged.add(path.name)
            warnings.warn(f"{path}: {problem}; trying the previous checkpoint", stacklevel=2)
        if disk_error is not None:
            raise self._unreadable(disk_error)
        return None

    def _manifests(self) -> list[Path]:
        """Paths of the manifests, newest first."""
        try:
            names = [path.name for path in self.folder.iterdir()]  # glob would hide errors
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._unreadable(error) from error
        manifests = (name for name in names if name.endswith(".json") and OWN_FILE.fullmatch(name))
        return [self.folder / name for name in sorted(manifests, reverse=True)]

    def _unreadable(self, error: OSError) -> CheckpointsUnreadable:
        return CheckpointsUnreadable(
            f"{self.folder} cannot be read ({error.strerror}); nothing was changed; rerun the same command to retry"
        )

    def replay_parts(self, names: list[str]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """First slot and arrays of each part; see `UniformReplay.restore`.

        Raises:
            InvalidInput: for a file that is no archive of plain arrays.
            CheckpointsUnreadable: after an input/output error.
        """
        for name in names:
            path = self.folder / name
            try:
                arrays = _load_arrays(path)
            except OSError as error:
                raise self._unreadable(error) from error
            except Exception as error:  # foreign files can raise anything
                raise InvalidInput(f"{path} must hold plain arrays: {describe(error)}") from error
            yield self._parts[name]["first"], arrays

    def part_digests(self, names: list[str]) -> list[str]:
        """SHA-256 of each part."""
        return [self._parts[name]["sha256"] for name in names]

    def keep_diverged(self, agent: dict[str, Any]) -> None:
        """Keep the state of a diverged agent, for inspection."""
        self.folder.mkdir(exist_ok=True)
        self._write(DIVERGED, to_bytes(agent))

    def delete(self) -> None:
        """Remove all checkpoints; files that cannot be removed, and foreign ones, stay."""
        self._remove_all_but(set())
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _write_new_slots(self, replay: UniformReplay) -> None:
        first = max(self.saved_slots, replay.oldest_slot)
        for begin in range(first, replay.num_slots, PART_SLOTS):
            end = min(begin + PART_SLOTS, replay.num_slots)
            buffer = io.BytesIO()
            np.savez(buffer, **replay.export(begin, end))  # type: ignore[arg-type]
            name = f"replay_{begin:09d}_{end:09d}.npz"
            self._parts[name] = {**self._write(name, buffer.getbuffer()), "first": begin, "end": end}
            self.saved_slots = end

    def _write(self, name: str, data: memoryview) -> dict[str, Any]:
        write_atomically(self.folder / name, data)
        self.bytes_written += len(data)
        return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def _read(self, path: Path) -> Checkpoint:
        manifest = self._manifest(path.name)
        if manifest["format"] > FORMAT:
            raise InvalidInput(
                f"{path}: written by a newer version (format {manifest['format']}; this one reads {FORMAT})"
            )
        step, parts = manifest["step"], manifest["replay"]
        counts = [step, *(entry[name] for entry in parts.values() for name in ("first", "end"))]
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError("wrong numbers")
        ((name, entry),) = manifest["files"].items()
        state = load_safely(self.folder / name, self._checked(name, entry))
        if not isinstance(state, dict):
            raise ValueError(f"{name} holds no state")
        intact = [part for part in sorted(parts) if self._is_intact(part, parts[part])]
        if parts and (not intact or intact[-1] != max(parts)):
            raise ValueError(f"{max(parts)}, the newest part of the replay, is missing, changed or unreadable")
        for part in set(parts) - set(intact):
            warnings.warn(
                f"{self.folder / part}: damaged; training resumes without these steps of the replay", stacklevel=2
            )
        self._parts = {part: parts[part] for part in intact}
        self.saved_slots = max((entry["end"] for entry in parts.values()), default=0)
        self._saved_step = step
        return Checkpoint(step, state, intact)

    def _manifest(self, name: str) -> dict[str, Any]:
        content = json.loads(self._content(name))
        if content["sha256"] != _digest(content["body"]):
            raise ValueError("wrong checksum")
        body: dict[str, Any] = content["body"]
        return body

    def _content(self, name: str) -> bytes:
        path = self.folder / name
        if path.name != name or (path.exists() and not path.is_file()):
            raise ValueError(f"{name} is not a file of this directory")  # a pipe would block
        return path.read_bytes()

    def _checked(self, name: str, entry: dict[str, Any]) -> bytes:
        data = self._content(name)
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ValueError(f"{name} has changed")
        return data

    def _is_intact(self, name: str, entry: dict[str, Any]) -> bool:
        try:
            self._checked(name, entry)
        except (OSError, ValueError):
            return False
        return True

    def _prune(self, step: int) -> None:
        """Remove all but the newest two checkpoints up to `step`, and all files that neither refers to."""
        needed, num_kept = set[str](), 0
        for name in (path.name for path in self._manifests()):
            if num_kept < NUM_KEPT and name not in self._damaged and name <= f"{step:09d}.json":
                try:
                    manifest = self._manifest(name)
                    needed |= {name, *manifest["files"], *manifest["replay"]}
                    num_kept += 1
                except (OSError, *DAMAGE):
                    self._damaged.add(name)
        self._remove_all_but(needed)

    def _remove_all_but(self, needed: set[str]) -> None:
        """Remove files of checkpoints; what cannot be removed stays, with a warning."""
        try:
            for path in self.folder.iterdir():
                if path.name not in needed and OWN_FILE.fullmatch(path.name) and not path.is_dir():
                    path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError as error:
            warnings.warn(f"{self.folder}: old checkpoints cannot be removed ({error.strerror})", stacklevel=2)


@contextlib.contextmanager
def refuse_foreign_state(source: Path) -> Iterator[None]:
    """One line for errors of restoring an intact checkpoint in `source`: only those of other software raise them."""
    try:
        yield
    except (InvalidInput, torch.OutOfMemoryError):
        raise
    except (*DAMAGE, IndexError, RuntimeError) as error:
        raise InvalidInput(f"{source} does not hold the state of this run: {describe(error)}") from error


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an uncompressed `.npz`; a small file cannot fill the memory."""
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
            raise ValueError("the archive is compressed")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
