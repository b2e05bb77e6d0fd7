"""Videos of episodes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import imageio.v2 as imageio
import numpy as np

from drq_sn.validation import first_line

VIDEO_SIZE = 256
DEFAULT_RATE = 30.0


def playback_rate(env: Any) -> float:
    """Steps per second of simulated time; 30 if the environment has no clock."""
    try:
        return 1.0 / float(env.control_timestep() * env.num_repeats)
    except AttributeError:
        return DEFAULT_RATE


class VideoRecorder:
    """Context manager that writes an MP4; call it with the environment at every step.

    Args:
        path: file to write; its directory is created. The file appears once it is complete.
        frames_per_second: playback rate, in steps per second.

    Attributes:
        path: the file.
        frames: (H, W, 3) uint8, at half the size.
        is_complete: whether the file was written.
    """

    def __init__(self, path: Path, frames_per_second: float) -> None:
        self.path = path
        self.frames: list[np.ndarray] = []
        self.is_complete = self._failed = False
        self._writer: Any = None
        self._partial = path.with_name(f".{path.name}")
        with self._warn_on_error():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = imageio.get_writer(
                self._partial, format="FFMPEG", fps=frames_per_second, macro_block_size=16
            )

    def __call__(self, env: Any) -> None:
        """Append the current state of `env` as a frame."""
        if not self._failed:
            frame = env.render(VIDEO_SIZE, VIDEO_SIZE)
            self.frames.append(frame[::2, ::2].copy())
            with self._warn_on_error():
                self._writer.append_data(frame)

    def __enter__(self) -> VideoRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            with self._warn_on_error():
                self._writer.close()
                if kind is None and not self._failed:
                    self._partial.replace(self.path)
                    self.is_complete = True
        with contextlib.suppress(OSError):
            self._partial.unlink()

    @contextlib.contextmanager
    def _warn_on_error(self) -> Iterator[None]:
        """Turn a failure of the encoder or the disk into a warning: a video is no reason to end a run."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            warnings.warn(f"{self.path}: no video, the encoder failed ({first_line(error)})", stacklevel=3)
            self._failed = True
