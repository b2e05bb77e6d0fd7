"""Films of episodes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import imageio.v2 as imageio

VIDEO_SIZE = 256
DEFAULT_RATE = 30.0


def playback_rate(env: Any) -> float:
    """Steps per second of simulated time, or 30 where the environment has no clock."""
    try:
        return 1.0 / (env.control_timestep() * env.num_repeats)
    except AttributeError:
        return DEFAULT_RATE


class VideoRecorder:
    """Writes an MP4 while its `with` block lasts; call it with the environment at every step.

    Args:
        path: file to write; its folder is made. It appears under this name when it is complete.
        frames_per_second: playback rate, in steps per second.
    """

    def __init__(self, path: Path, frames_per_second: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lost = False
        self._partial = path.with_name(f".{path.name}")
        self._writer = imageio.get_writer(self._partial, format="FFMPEG", fps=frames_per_second, macro_block_size=16)  # type: ignore[arg-type]

    def __call__(self, env: Any) -> None:
        """Film the present state of `env`."""
        if not self._lost:
            frame = env.render(VIDEO_SIZE, VIDEO_SIZE)
            with self._forgiving():
                self._writer.append_data(frame)

    def __enter__(self) -> VideoRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._forgiving():
            self._writer.close()
        if kind is None and not self._lost:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """A film is no reason to lose a run: when its encoder dies, there is a warning and no film."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            warnings.warn(f"{self._path}: no film, its encoder failed ({str(error).splitlines()[0]})", stacklevel=3)
            self._lost = True
