"""The live table of a sweep; lines of text if the output is not a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table

from drq_sn.runs.progress import Progress, total
from drq_sn.runs.status import Status

REFRESH_SECONDS, SECONDS_PER_ROW = 2.0, 0.05  # sweeps of many runs are refreshed less often
MAX_ROWS = 30  # the other runs are counted
STYLES = {  # most important first
    Status.UNKNOWN: "",
    Status.RUNNING: "cyan",
    Status.FAILED: "red",
    Status.DIVERGED: "magenta",
    Status.INTERRUPTED: "yellow",
    Status.WAITING: "",
    Status.FINISHED: "green",
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
    ranked = sorted(states, key=lambda row: list(STYLES).index(states[row].status))
    for row in ranked[:MAX_ROWS]:
        state = states[row]
        table.add_row(
            row.name,
            state.status,
            f"{state.frame:,}".replace(",", " ") + f" ({min(1.0, state.frame / row.num_frames):.0%})",
            "" if state.evaluation is None else f"{state.evaluation:.1f}",
            "" if state.frames_per_second is None else f"{state.frames_per_second:.1f}",
            time_left(state, row.num_frames),
            style=STYLES[state.status],
        )
    if len(ranked) > MAX_ROWS:
        others = [states[row] for row in ranked[MAX_ROWS:]]
        table.add_row(f"… and {len(others)} more: {total(others)}")
    return table


class SweepTable:
    """Shows the progress of runs on a terminal while the `with` block lasts; elsewhere prints lines only.

    Args:
        rows: all runs.
        console: where to; standard output by default.
    """

    def __init__(self, rows: Sequence[Row], console: Console | None = None) -> None:
        self._rows, self._console = rows, console or Console(file=sys.stdout)
        self._ended: dict[Row, Progress] = {}
        self._live = contextlib.ExitStack()

    def __enter__(self) -> SweepTable:
        if self._console.is_terminal:
            rate = 1 / max(REFRESH_SECONDS, SECONDS_PER_ROW * len(self._rows))
            live = Live(console=self._console, refresh_per_second=rate, get_renderable=self._draw)
            self._live.enter_context(live)
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.close()

    def _draw(self) -> Table:
        """The table; runs that have ended are not read again."""
        states = {row: self._ended.get(row) or row.progress() for row in self._rows}
        self._ended = {row: state for row, state in states.items() if state.status.is_final}
        return draw(states)

    def say(self, line: str) -> None:
        """Print a line with the time, above the table if there is one."""
        self._console.print(f"{datetime.now():%H:%M:%S} {line}", markup=False, highlight=False, soft_wrap=True)
