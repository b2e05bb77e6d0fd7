"""Files of a run that must never be half written, and weights that load without running code."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from drq_sn.validation import InvalidInput

WEIGHTS = "weights.pt"
FORMAT = 1


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write `path` so that a reader sees the old file or the new one, whole, even after a power cut.

    Raises:
        OSError: when it cannot be written; the old file is still there and nothing else is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or the new name may be lost
    finally:
        os.close(folder)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def save_weights(run_dir: Path, networks: dict[str, torch.Tensor], frame: int) -> None:
    """Write the networks' state dict and the frame it was taken at to `weights.pt`, atomically."""
    write_atomically(run_dir / WEIGHTS, to_bytes({"format": FORMAT, "frame": frame, "networks": networks}))


def to_bytes(state: Any) -> memoryview:
    """What `torch.save` writes of `state`; `load_safely` reads it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def load_safely(path: Path, data: bytes, device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote, read without running any code that the file may hold.

    Args:
        path: where `data` comes from, for messages.
        data: the file's content.
        device: where tensors go.

    Raises:
        InvalidInput: if reading it would run code, or it is no such file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged")
        return torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # a file that is no such file can raise anything
        raise InvalidInput(
            f"{path}: refused, not plain weights and numbers ({next(iter(str(error).splitlines()), type(error).__name__)})"
        ) from error


def load_weights(run_dir: Path, device: torch.device | str) -> dict[str, Any]:
    """Read `weights.pt`: `frame` and the `networks` state dict.

    Raises:
        InvalidInput: if the file is missing, damaged, or of a newer format.
    """
    path = Path(run_dir) / WEIGHTS
    if not path.is_file():
        raise InvalidInput(f"{path} holds no weights; a finished run has {WEIGHTS}")
    state = load_safely(path, path.read_bytes(), device)
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise InvalidInput(f"{path}: format {found!r}; this version reads {FORMAT}")
    return state
