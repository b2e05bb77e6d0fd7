"""The progress of a run, read from its directory."""

from __future__ import annotations

from drq_sn.runs.progress import Progress, read_progress
from tests.builders import write_progress


def test_progress_is_read_from_the_logs(tmp_path):
    run = write_progress(tmp_path / "a", "running", (0, 200), (3.0, 7.5), (1, 2, 3, 4, 5, 6, 7))
    assert read_progress(run) == Progress("running", 700, 7.5, 5.0)  # the mean of the last five: 3 to 7


def test_a_run_that_has_not_begun_waits(tmp_path):
    assert read_progress(tmp_path / "nothing") == Progress("waiting", 0, None, None)


def test_a_damaged_log_says_nothing(tmp_path):
    run = write_progress(tmp_path / "a", "running", (0,), (3.0,), (1,))
    for text in ("no,csv\n1\n", "frame,frames_per_second\n0,fast\n"):
        (run / "train.csv").write_text(text)
        assert read_progress(run) == Progress("running", 0, 3.0, None)
