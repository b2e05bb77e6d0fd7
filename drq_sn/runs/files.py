"""Atomic file writes, and weights of a run that load without executing code."""

from __future__ import annotations

import io
import json
import math
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from drq_sn import validation
from drq_sn.validation import InvalidInput

WEIGHTS = {"last": "weights.pt", "best": "best.pt"}
"""Evaluation -> file with the weights it used."""
DAMAGED = "best.pt.damaged"
FORMAT = 1
CONTENT = {"frame": int, "episode_return": float, "networks": dict}


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


class WeightsWriter:
    """Keeps the weights of the last evaluation, and those of the one with the highest mean return.

    The return to exceed is read from `best.pt`, so that a resumed run knows that of all its evaluations. Of equal
    ones the first is kept.

    Args:
        run_dir: run directory.
        specs: shapes of observations and actions, for agents that are loaded without an environment.
    """

    def __init__(self, run_dir: Path, specs: dict[str, Any] | None = None) -> None:
        self._run_dir, self._specs = run_dir, specs
        self._best_return = -math.inf
        path = run_dir / WEIGHTS["best"]
        if os.path.lexists(path):
            try:
                self._best_return = load_weights(run_dir, "cpu", "best")["episode_return"]
            except InvalidInput as error:
                warnings.warn(f"{error}; kept as {DAMAGED}; the best evaluation from now on replaces it", stacklevel=2)
                path.replace(path.with_name(DAMAGED))

    def save(self, networks: dict[str, torch.Tensor], frame: int, episode_return: float) -> None:
        """Write the networks' state dict with the frame and the mean return of its evaluation, atomically.

        Raises:
            OSError: if the disk is full or fails; the earlier files are unchanged.
        """
        content: dict[str, Any] = {
            "format": FORMAT,
            "frame": frame,
            "episode_return": episode_return,
            "networks": networks,
        }
        if self._specs is not None:
            content["specs"] = self._specs
        data = to_bytes(content)
        write_atomically(self._run_dir / WEIGHTS["last"], data)
        if episode_return > self._best_return:
            write_atomically(self._run_dir / WEIGHTS["best"], data)
            self._best_return = episode_return


def to_bytes(state: Any) -> memoryview:
    """`state` as `torch.save` writes it; see `load_safely`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def load_safely(path: Path, data: bytes, device: torch.device | str = "cpu") -> Any:
    """Load what `torch.save` wrote to `path`, without executing code that `data`, its content, may contain.

    Raises:
        InvalidInput: if loading would execute code, or the file is damaged or of another kind.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged")
        return torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # foreign files can raise anything
        raise InvalidInput(f"{path} must hold plain tensors and numbers: {validation.first_line(error)}") from error


def load_weights(run_dir: Path, device: torch.device | str, evaluation: str = "last") -> dict[str, Any]:
    """Read what `WeightsWriter` wrote at the `last` or `best` evaluation.

    Returns:
        `frame`, `episode_return`, the state dict `networks`, and `specs` if it has any.

    Raises:
        InvalidInput: if the file is missing, damaged or of another format.
    """
    path = Path(run_dir) / WEIGHTS[validation.choice("weights", evaluation, WEIGHTS)]
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput(f"{path} does not exist; a run writes its weights at every evaluation") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror})") from None
    state = load_safely(path, data, device)
    weights: dict[str, Any] = state if isinstance(state, dict) else {}
    if weights.get("format") != FORMAT:
        raise InvalidInput(f"{path}: format {weights.get('format')!r}; this version reads {FORMAT}")
    if missing := CONTENT.keys() - weights.keys():
        raise InvalidInput(f"{path} must hold {', '.join(sorted(missing))}")
    for name, kind in CONTENT.items():
        given = type(weights.get(name))
        if not issubclass(given, kind):
            raise InvalidInput(f"{path}: {name} must be of type {kind.__name__}, got {given.__name__}")
    return weights
