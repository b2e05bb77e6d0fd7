"""One live table of all runs of a sweep; lines instead where no terminal shows it."""

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

REFRESH_SECONDS, PER_ROW_SECONDS, LINE_SECONDS = 2.0, 0.05, 600.0  # many runs are read less often
MAX_ROWS = 30  # runs that are shown one by one
ORDER = (
    Status.RUNNING,
    Status.FAILED,
    Status.DIVERGED,
    Status.INTERRUPTED,
    Status.WAITING,
    Status.FINISHED,
)  # most relevant first
STYLES = {
    Status.RUNNING: "cyan",
    Status.FINISHED: "green",
    Status.DIVERGED: "magenta",
    Status.FAILED: "red",
    Status.INTERRUPTED: "yellow",
}


class Row(NamedTuple):
    """A run: its name, its length in frames, and how to learn how far it is."""

    name: str
    num_frames: int
    progress: Callable[[], Progress]


def time_left(state: Progress, num_frames: int) -> str:
    """Until a running run ends at its present speed: `1 h 05 min`."""
    if state.status != Status.RUNNING or not state.frames_per_second:
        return ""
    minutes = round(max(0, num_frames - state.frame) / state.frames_per_second / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def draw(states: Mapping[Row, Progress]) -> Table:
    """The runs that matter most one by one, all others counted."""
    table = Table(title=total(list(states.values())), title_justify="left")
    for title in ("run", "status", "frame", "evaluation", "frames/s", "left"):
        table.add_column(title, justify="left" if title in ("run", "status") else "right", overflow="fold")
    ranked = sorted(states, key=lambda row: ORDER.index(states[row].status) if states[row].status in ORDER else 0)
    for row in ranked[:MAX_ROWS]:
        table.add_row(*cells(row, states[row]), style=STYLES.get(states[row].status))
    if len(ranked) > MAX_ROWS:
        rest = [states[row] for row in ranked[MAX_ROWS:]]
        table.add_row(f"… and {len(rest)} more: {total(rest)}")
    return table


def cells(row: Row, state: Progress) -> list[str]:
    """One line of the table."""
    return [
        row.name,
        state.status,
        f"{state.frame:,}".replace(",", " ") + f" ({min(1.0, state.frame / row.num_frames):.0%})",
        "" if state.evaluation is None else f"{state.evaluation:.1f}",
        "" if state.frames_per_second is None else f"{state.frames_per_second:.1f}",
        time_left(state, row.num_frames),
    ]


class SweepTable:
    """Shows runs while the `with` block lasts, from a thread of its own.

    Args:
        rows: all runs.
        console: where; standard output unless another is given.
    """

    def __init__(self, rows: Sequence[Row], console: Console | None = None) -> None:
        self._rows, self._console = rows, console or Console(file=sys.stdout)
        self._over_already: dict[Row, Progress] = {}
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SweepTable:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        if self._live:
            self._live.update(draw(self.states()), refresh=True)
            self._live.stop()

    def states(self) -> dict[Row, Progress]:
        """How far every run is; what is over is read no more."""
        states = {row: self._over_already.get(row) or row.progress() for row in self._rows}
        self._over_already = {row: state for row, state in states.items() if state.status.is_final}
        return states

    def say(self, line: str) -> None:
        """Print a line, above the table if there is one; training goes on when nobody reads it any more."""
        with contextlib.suppress(OSError):
            self._console.print(f"{datetime.now():%H:%M:%S} {line}", markup=False, highlight=False, soft_wrap=True)

    def _watch(self) -> None:
        period = max(REFRESH_SECONDS, PER_ROW_SECONDS * len(self._rows)) if self._live else LINE_SECONDS
        while not self._over.wait(period):
            states = self.states()
            if self._live:
                self._live.update(draw(states), refresh=True)
            else:
                self.say(total(list(states.values())))
