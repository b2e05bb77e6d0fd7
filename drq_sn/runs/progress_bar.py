"""The progress of a run on standard error."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

LOG_SECONDS = 30.0  # between lines if standard error is not a terminal
REFRESHES_PER_SECOND = 2.0
SPEED_SECONDS = 60.0  # over which the speed is averaged
LINE_CHARACTERS = 100  # of a line if standard error is not a terminal
NO_WRAP = Column(no_wrap=True)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} frames/s" if speed else "- frames/s")


class ProgressBar:
    """Frames, time left, speed and last returns: a bar in a terminal, otherwise a line every 30 seconds.

    Args:
        num_frames: length of the run, in simulator frames.
        frame: where it starts.
    """

    def __init__(self, num_frames: int, frame: int) -> None:
        console = Console(stderr=True)
        self._is_live = console.is_terminal
        self._console = console if self._is_live else Console(stderr=True, width=LINE_CHARACTERS)
        self._progress = Progress(
            BarColumn(bar_width=10) if self._is_live else TaskProgressColumn(),
            MofNCompleteColumn(table_column=NO_WRAP),
            TimeRemainingColumn(table_column=NO_WRAP),
            TextColumn("left", table_column=NO_WRAP),
            _Speed(table_column=NO_WRAP),
            TextColumn("{task.description}", table_column=NO_WRAP),
            console=self._console,
            refresh_per_second=REFRESHES_PER_SECOND,
            speed_estimate_period=SPEED_SECONDS,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._scores: dict[str, float] = {}
        self._task = self._progress.add_task("", total=num_frames, completed=frame)
        self._printed = time.monotonic()
        if self._is_live:
            self._progress.start()
            self._console.show_cursor(True)  # it would stay hidden after a SIGKILL

    def move(self, frame: int) -> None:
        """Move the bar to `frame`."""
        self._progress.update(self._task, completed=frame)
        if not self._is_live and time.monotonic() - self._printed >= LOG_SECONDS:
            self._print()

    def show(self, name: str, score: float) -> None:
        """Show `score` from now on."""
        self._scores[name] = score
        description = ", ".join(f"{name}={score:.1f}" for name, score in self._scores.items())
        self._progress.update(self._task, description=description)

    def close(self) -> None:
        """Show the last state and leave it there."""
        if self._is_live:
            self._progress.stop()
        else:
            self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        self._console.print(self._progress.get_renderable())
