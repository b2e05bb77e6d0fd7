"""The table of hyperparameters, as TensorBoard reads it: one line per run."""

from __future__ import annotations

import threading

import pytest
from tensorboard.summary.writer import event_file_writer

from drq_sn.runs.logger import RunLogger
from tests.board_reader import table, tags_written
from tests.builders import make_episodes, read_csv

VALUES = {"agent": "drq", "lr": 1e-3, "seed": 2, "head.pnorm": True, "head.critic.num_blocks": None}
START, END = "_hparams_/session_start_info", "_hparams_/session_end_info"


@pytest.fixture(autouse=True)
def _files_in_order(monkeypatch):
    """Files of one second and one process are told apart by a number that sorts as text: not past 9, so start at 0."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def logger(folder, values=VALUES, state=None):
    folder.mkdir(exist_ok=True)
    return RunLogger(folder, 2000, ("critic_loss",), (), (), 1, state, values)


def test_one_line_per_run_with_its_values_and_its_last_return(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        run = logger(tmp_path / name, VALUES | {"seed": seed})
        run.evaluation(0, 0, make_episodes(1.0))
        run.evaluation(1000, 500, make_episodes(10.0 * seed))
        run.close()
    lines = table(tmp_path)
    assert set(lines) == {"a", "b"}  # equal runs in two folders would still be two lines
    values, metrics, status = lines["b"]
    assert values == {"agent": "drq", "lr": 1e-3, "seed": 2.0, "head.pnorm": True}
    assert metrics == {"eval/episode_return": 20.0}
    assert status == "STATUS_UNKNOWN"  # it may go on


@pytest.mark.parametrize(("success", "status"), [(True, "STATUS_SUCCESS"), (False, "STATUS_FAILURE")])
def test_the_end_of_a_run_stands_in_its_line(tmp_path, success, status):
    run = logger(tmp_path / "a")
    run.end(success)
    run.close()
    assert table(tmp_path)["a"][2] == status


def test_a_continued_run_keeps_its_line(tmp_path):
    run = logger(tmp_path / "a")
    run.evaluation(0, 0, make_episodes(1.0))
    state = run.state_dict()
    run.evaluation(1000, 500, make_episodes(2.0))  # after the checkpoint: done again below
    run.close()
    run = logger(tmp_path / "a", state=state)
    run.evaluation(1000, 500, make_episodes(3.0))
    run.end(success=True)
    run.close()
    written = tags_written(tmp_path / "a")
    assert (written[START], written[END], written["_hparams_/experiment"]) == (1, 1, 1)
    values, metrics, status = table(tmp_path)["a"]
    assert values == {"agent": "drq", "lr": 1e-3, "seed": 2.0, "head.pnorm": True}
    assert (metrics, status) == ({"eval/episode_return": 3.0}, "STATUS_SUCCESS")


def test_a_run_that_began_without_a_line_gets_one(tmp_path):
    run = logger(tmp_path / "a", values=None)
    state = run.state_dict()
    run.close()
    assert tags_written(tmp_path / "a")[START] == 0
    logger(tmp_path / "a", state=state).close()
    assert tags_written(tmp_path / "a")[START] == 1


def test_a_failing_event_file_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda failure: None)  # TensorBoard's own thread ends
    before = set(threading.enumerate())
    run = logger(tmp_path)
    (event_file,) = tmp_path.glob("events.*")
    run.state_dict()  # flushes
    event_file.unlink()
    event_file.mkdir()
    run.evaluation(0, 0, make_episodes(1.0))
    with pytest.warns(UserWarning, match="no more TensorBoard events") as caught:
        run.state_dict()
    run.evaluation(1000, 500, make_episodes(2.0))
    run.end(success=True)
    run.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert len(caught) == 1
    assert [row["frame"] for row in read_csv(tmp_path / "eval.csv")] == ["0", "1000"]
