"""Checkpoints of a run: written incrementally, verified on reading; the last complete one is never at risk.

The directory `checkpoint/` holds, per checkpoint, a manifest `{step}.json` (written last, it makes the
checkpoint valid) and `{step}.pt` with everything but the replay's slots. The slots are in parts
`replay_{first}_{end}.npz`, each written once and shared by later checkpoints, so that the cost of a
checkpoint is that of the new slots only. Manifests have size and SHA-256 of every file they refer to.
The newest two checkpoints are kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drq_sn.runs.files import load_safely, to_bytes, write_atomically, write_json
from drq_sn.training.replay import UniformReplay
from drq_sn.validation import InvalidInput

FOLDER = "checkpoint"
FORMAT = 1  # of manifests
NUM_KEPT = 2
PART_SLOTS = 4096  # slots per file; bounds the memory of a copy
DIVERGED = "diverged.pt"


class Checkpoint(NamedTuple):
    """A checkpoint read from disk.

    Attributes:
        step: environment step that is next.
        state: everything but the replay's slots.
        parts: file names of the intact parts of the replay, in order.
    """

    step: int
    state: dict[str, Any]
    parts: list[str]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        run_dir: run directory.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / FOLDER
        self._parts: dict[str, dict[str, Any]] = {}
        self._saved_slots = 0
        self._saved_step: int | None = None
        self._damaged: set[str] = set()  # manifests that could not be read
        self.bytes_written = 0

    @property
    def saved_slots(self) -> int:
        """End of the replay's slots on disk."""
        return self._saved_slots

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
        """Read the newest intact checkpoint, with a warning for each damaged one; None if there is none.

        Raises:
            InvalidInput: for a newer format, or a file whose loading would execute code.
        """
        for path in sorted(self.folder.glob("*.json"), reverse=True):
            try:
                return self._read(path)
            except InvalidInput:
                raise
            except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
                self._damaged.add(path.name)
                warnings.warn(f"{path}: damaged ({error}); trying the previous checkpoint", stacklevel=2)
        return None

    def replay_parts(self, names: list[str]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """First slot and arrays of each part; see `UniformReplay.restore`."""
        for name in names:
            with np.load(self.folder / name, allow_pickle=False) as arrays:
                yield self._parts[name]["first"], dict(arrays)

    def part_digests(self, names: list[str]) -> list[str]:
        """SHA-256 of each part."""
        return [self._parts[name]["sha256"] for name in names]

    def keep_diverged(self, agent: dict[str, Any]) -> None:
        """Keep the state of a diverged agent, for inspection."""
        self.folder.mkdir(exist_ok=True)
        self._write(DIVERGED, to_bytes(agent))

    def delete(self) -> None:
        """Remove all checkpoints."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def _write_new_slots(self, replay: UniformReplay) -> None:
        first = max(self._saved_slots, replay.oldest_slot)
        for begin in range(first, replay.num_slots, PART_SLOTS):
            end = min(begin + PART_SLOTS, replay.num_slots)
            buffer = io.BytesIO()
            np.savez(buffer, **replay.export(begin, end))  # type: ignore[arg-type]
            name = f"replay_{begin:09d}_{end:09d}.npz"
            self._parts[name] = {**self._write(name, buffer.getbuffer()), "first": begin, "end": end}
            self._saved_slots = end

    def _write(self, name: str, data: memoryview) -> dict[str, Any]:
        write_atomically(self.folder / name, data)
        self.bytes_written += len(data)
        return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def _read(self, path: Path) -> Checkpoint:
        manifest = self._manifest(path)
        if manifest["format"] > FORMAT:
            raise InvalidInput(
                f"{path}: written by a newer version (format {manifest['format']}; this one reads {FORMAT})"
            )
        ((name, entry),) = manifest["files"].items()
        state = load_safely(self.folder / name, self._checked(name, entry))
        parts = manifest["replay"]
        intact = [part for part in sorted(parts) if self._is_intact(part, parts[part])]
        if parts and (not intact or intact[-1] != max(parts)):
            raise ValueError(f"{max(parts)}, the newest part of the replay, is missing or changed")
        for part in set(parts) - set(intact):
            warnings.warn(
                f"{self.folder / part}: damaged; training resumes without these steps of the replay", stacklevel=2
            )
        self._parts = {part: parts[part] for part in intact}
        self._saved_slots = max((entry["end"] for entry in parts.values()), default=0)
        self._saved_step = manifest["step"]
        return Checkpoint(manifest["step"], state, intact)

    @staticmethod
    def _manifest(path: Path) -> dict[str, Any]:
        content = json.loads(path.read_text())
        if content["sha256"] != _digest(content["body"]):
            raise ValueError("wrong checksum")
        body: dict[str, Any] = content["body"]
        return body

    def _checked(self, name: str, entry: dict[str, Any]) -> bytes:
        data = (self.folder / name).read_bytes()
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ValueError(f"{name} has changed")
        return data

    def _is_intact(self, name: str, entry: dict[str, Any]) -> bool:
        try:
            self._checked(name, entry)
        except (FileNotFoundError, ValueError):
            return False
        return True

    def _prune(self, step: int) -> None:
        """Delete all but the newest two checkpoints up to `step`, and all files that neither refers to."""
        names = {path.name for path in self.folder.glob("*.json")} - self._damaged
        paths = [self.folder / name for name in sorted(names, reverse=True) if name <= f"{step:09d}.json"]
        needed = {DIVERGED}
        for path in paths[:NUM_KEPT]:
            manifest = self._manifest(path)
            needed |= {path.name, *manifest["files"], *manifest["replay"]}
        for path in self.folder.iterdir():
            if path.name not in needed:
                path.unlink()


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
