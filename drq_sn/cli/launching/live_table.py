"""One live table of all runs of a sweep; lines of text if the output is not a terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table

from drq_sn.runs.progress import Progress, total
from drq_sn.runs.status import Status

REFRESH_SECONDS, SECONDS_PER_ROW, LINE_SECONDS = 2.0, 0.05, 600.0  # sweeps of many runs are refreshed less often
MAX_ROWS = 30  # the other runs are counted
ORDER = (  # most important first
    Status.RUNNING,
    Status.FAILED,
    Status.DIVERGED,
    Status.INTERRUPTED,
    Status.WAITING,
    Status.FINISHED,
)
STYLES = {
    Status.RUNNING: "cyan",
    Status.FINISHED: "green",
    Status.DIVERGED: "magenta",
    Status.FAILED: "red",
    Status.INTERRUPTED: "yellow",
}


class Row(NamedTuple):
    """A run: its name, its length in frames, and a function that reads its progress."""

    name: str
    num_frames: int
    progress: Callable[[], Progress]


def time_left(state: Progress, num_frames: int) -> str:
    """Time until a running run finishes at its present speed: `1 h 05 min`."""
    if state.status != Status.RUNNING or not state.frames_per_second:
        return ""
    minutes = round(max(0, num_frames - state.frame) / state.frames_per_second / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def draw(states: Mapping[Row, Progress]) -> Table:
    """The most important runs one by one, the others counted."""
    table = Table(title=total(list(states.values())), title_justify="left")
    for title in ("run", "status", "frame", "evaluation", "frames/s", "left"):
        table.add_column(title, justify="left" if title in ("run", "status") else "right", overflow="fold")
    ranked = sorted(states, key=lambda row: ORDER.index(states[row].status) if states[row].status in ORDER else 0)
    for row in ranked[:MAX_ROWS]:
        state = states[row]
        table.add_row(
            row.name,
            state.status,
            f"{state.frame:,}".replace(",", " ") + f" ({min(1.0, state.frame / row.num_frames):.0%})",
            "" if state.evaluation is None else f"{state.evaluation:.1f}",
            "" if state.frames_per_second is None else f"{state.frames_per_second:.1f}",
            time_left(state, row.num_frames),
            style=STYLES.get(state.status),
        )
    if len(ranked) > MAX_ROWS:
        others = [states[row] for row in ranked[MAX_ROWS:]]
        table.add_row(f"… and {len(others)} more: {total(others)}")
    return table


class SweepTable:
    """Shows the progress of runs, from a thread of its own, while the `with` block lasts.

    Args:
        rows: all runs.
        console: where to; standard output by default.
    """

    def __init__(self, rows: Sequence[Row], console: Console | None = None) -> None:
        self._rows, self._console = rows, console or Console(file=sys.stdout)
        self._ended: dict[Row, Progress] = {}
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> SweepTable:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._thread.join()
        if self._live:
            self._live.update(draw(self.states()), refresh=True)
            self._live.stop()

    def states(self) -> dict[Row, Progress]:
        """The progress of every run; those that have ended are not read again."""
        states = {row: self._ended.get(row) or row.progress() for row in self._rows}
        self._ended = {row: state for row, state in states.items() if state.status.is_final}
        return states

    def say(self, line: str) -> None:
        """Print a line with the time, above the table if there is one; a closed output is ignored."""
        with contextlib.suppress(OSError):
            self._console.print(f"{datetime.now():%H:%M:%S} {line}", markup=False, highlight=False, soft_wrap=True)

    def _refresh(self) -> None:
        period = max(REFRESH_SECONDS, SECONDS_PER_ROW * len(self._rows)) if self._live else LINE_SECONDS
        while not self._closing.wait(period):
            states = self.states()
            if self._live:
                self._live.update(draw(states), refresh=True)
            else:
                self.say(total(list(states.values())))
