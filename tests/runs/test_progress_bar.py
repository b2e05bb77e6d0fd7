"""The progress of a run: a bar in a terminal, lines in a file."""

from __future__ import annotations

import re

from drq_sn.runs import progress_bar
from drq_sn.runs.progress_bar import ProgressBar


def test_a_file_gets_a_line_every_thirty_seconds_and_one_at_the_end(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: clock[0])
    bar = ProgressBar(2000, frame=100)
    for clock[0], frame in ((29.0, 500), (30.0, 600), (59.0, 900), (61.0, 1000)):
        bar.move(frame)
        bar.show("return", frame / 2)
    bar.show("eval", 853.26)
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [["30%", "600/2000"], ["50%", "1000/2000"], ["50%", "1000/2000"]]
    assert lines[0].endswith("return=250.0")
    assert lines[-1].endswith("return=500.0, eval=853.3")
    assert "frames/s" in lines[-1]


def test_a_terminal_gets_one_line_that_fits_and_keeps_its_cursor(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    bar = ProgressBar(500_000, frame=123_456)
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    started = capsys.readouterr().err
    assert started.rfind(shown) > started.rfind(hidden)
    bar.show("return", 853.2)
    bar.show("eval", 999.9)
    bar.move(123_458)
    bar.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    last = re.split(r"[\r\n]+", text.rstrip())[-1]
    assert "123458/500000" in last
    assert last.endswith("return=853.2, eval=999.9")
    assert len(last) <= 80
