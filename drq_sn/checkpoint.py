"""Files of a run that must never be half written, and weights that load without running code."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from drq_sn.checks import InvalidInput

WEIGHTS = "weights.pt"
FORMAT = 1


def write_atomically(path: Path, data: bytes) -> None:
    """Write `path` so that a reader sees the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def save_weights(run_dir: Path, networks: dict[str, torch.Tensor], frame: int) -> None:
    """Write the networks' state dict and the frame it was taken at to `weights.pt`, atomically."""
    path = run_dir / WEIGHTS
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save({"format": FORMAT, "frame": frame, "networks": networks}, temporary)
    temporary.replace(path)


def load_weights(run_dir: Path, device: torch.device | str) -> dict[str, Any]:
    """Read `weights.pt`: `frame` and the `networks` state dict.

    Raises:
        InvalidInput: if the file is missing, damaged, or of a newer format.
    """
    path = Path(run_dir) / WEIGHTS
    if not path.is_file():
        raise InvalidInput(f"{path}: no weights there; accepted is the folder of a run that has finished (it holds {WEIGHTS})")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise InvalidInput(f"{path}: not readable as weights ({str(error).splitlines()[0]})") from error
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise InvalidInput(f"{path}: format {found!r}; this version reads {FORMAT}")
    return state
