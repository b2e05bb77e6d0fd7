"""What a sweep shows."""

from __future__ import annotations

import io
from functools import partial

from rich.console import Console

from drq_sn.cli.launching.live_table import Row, SweepTable, draw, time_left
from drq_sn.runs.progress import Progress, read_progress
from tests.builders import write_progress


def shown(table, width=140):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_time_left_by_hand():
    assert time_left(Progress("running", 100_000, None, 50.0), 500_000) == "2 h 13 min"  # 400 000 / 50 = 8000 s
    assert time_left(Progress("running", 4000, None, 10.0), 10_000) == "10 min"
    assert time_left(Progress("finished", 4000, None, 10.0), 10_000) == ""
    assert time_left(Progress("running", 0, None, None), 10_000) == ""


def test_the_table_shows_what_matters_first_and_counts_the_rest():
    states = {Row(f"waiting{i}", 1000, lambda: None): Progress("waiting", 0, None, None) for i in range(40)}
    states[Row("broken", 1000, lambda: None)] = Progress("failed", 250, 12.34, 8.0)
    text = shown(draw(states))
    assert "40 waiting, 1 failed" in text
    assert "250 (25%)" in text
    assert "12.3" in text
    assert "… and 11 more: 11 waiting" in text
    assert text.index("broken") < text.index("waiting0")


def test_without_a_terminal_lines_are_printed(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    run = write_progress(tmp_path / "a[1]", "running")
    with SweepTable([Row("a[1]", 100, partial(read_progress, run))], console) as table:
        table.say("a[1]: started")
    assert console.file.getvalue().endswith(" a[1]: started\n")


def test_in_a_terminal_the_last_table_stays(tmp_path):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    run = write_progress(tmp_path / "a", "finished", (0,), (5.0,))
    with SweepTable([Row("the run", 100, partial(read_progress, run))], console) as table:
        table.say("line")
    assert "1 finished" in console.file.getvalue()
