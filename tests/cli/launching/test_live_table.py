"""What a sweep shows, and what it reads it from."""

from __future__ import annotations

import io
import json
from functools import partial

from rich.console import Console

from drq_sn.cli.launching.live_table import Row, SweepTable, draw, time_left
from drq_sn.runs.progress import Progress, read_progress


def folder_of(path, status, frames=(), returns=(), speeds=(), error=None):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("task: t\nseed: 1\n")
    (path / "run.json").write_text(json.dumps({"status": status, **({"error": error} if error else {})}))
    (path / "eval.csv").write_text(
        "frame,episode_return_mean\n" + "".join(f"{f},{r}\n" for f, r in zip(frames, returns, strict=True))
    )
    (path / "train.csv").write_text(
        "frame,frames_per_second\n" + "".join(f"{100 * i},{s}\n" for i, s in enumerate(speeds, 1))
    )
    return path


def shown(table, width=140):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_progress_is_read_from_the_logs(tmp_path):
    run = folder_of(tmp_path / "a", "running", (0, 200), (3.0, 7.5), (1, 2, 3, 4, 5, 6, 7))
    assert read_progress(run) == Progress("running", 700, 7.5, 5.0)  # the mean of the last five: 3 to 7


def test_a_run_that_has_not_begun_waits(tmp_path):
    assert read_progress(tmp_path / "nothing") == Progress("waiting", 0, None, None)


def test_a_damaged_log_says_nothing(tmp_path):
    run = folder_of(tmp_path / "a", "running", (0,), (3.0,), (1,))
    for text in ("no,csv\n1\n", "frame,frames_per_second\n0,fast\n"):
        (run / "train.csv").write_text(text)
        assert read_progress(run) == Progress("running", 0, 3.0, None)


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
    run = folder_of(tmp_path / "a[1]", "running")
    with SweepTable([Row("a[1]", 100, partial(read_progress, run))], console) as table:
        table.say("a[1]: started")
    assert console.file.getvalue().endswith(" a[1]: started\n")


def test_in_a_terminal_the_last_table_stays(tmp_path):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    run = folder_of(tmp_path / "a", "finished", (0,), (5.0,))
    with SweepTable([Row("the run", 100, partial(read_progress, run))], console) as table:
        table.say("line")
    assert "1 finished" in console.file.getvalue()
