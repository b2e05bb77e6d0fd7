"""Atomic file writes, and weights that load without executing code."""

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
    """Write `path` so that a reader sees either the old or the new file, even after a power failure.

    Raises:
        OSError: if it cannot be written; the old file is unchanged and nothing else is left behind.
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
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # otherwise the rename may be lost
    finally:
        os.close(directory)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def save_weights(run_dir: Path, networks: dict[str, torch.Tensor], frame: int) -> None:
    """Write the networks' state dict and its frame to `weights.pt`, atomically."""
    write_atomically(run_dir / WEIGHTS, to_bytes({"format": FORMAT, "frame": frame, "networks": networks}))


def to_bytes(state: Any) -> memoryview:
    """`state` as `torch.save` writes it; see `load_safely`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def load_safely(path: Path, data: bytes, device: torch.device | str = "cpu") -> Any:
    """Load what `torch.save` wrote, without executing code that the file may contain.

    Args:
        path: source of `data`, for messages.
        data: content of the file.
        device: device of the tensors.

    Raises:
        InvalidInput: if loading would execute code, or the file is damaged or of another kind.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged")
        return torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # foreign files can raise anything
        raise InvalidInput(
            f"{path} must hold plain tensors and numbers: {next(iter(str(error).splitlines()), type(error).__name__)}"
        ) from error


def load_weights(run_dir: Path, device: torch.device | str) -> dict[str, Any]:
    """Read `weights.pt`: `frame` and the `networks` state dict.

    Raises:
        InvalidInput: if the file is missing, damaged or of another format.
    """
    path = Path(run_dir) / WEIGHTS
    if not path.is_file():
        raise InvalidInput(f"{path} holds no weights; a finished run has {WEIGHTS}")
    state = load_safely(path, path.read_bytes(), device)
    weights: dict[str, Any] = state if isinstance(state, dict) else {}
    if weights.get("format") != FORMAT:
        raise InvalidInput(f"{path}: format {weights.get('format')!r}; this version reads {FORMAT}")
    return weights
