"""A few faults of each kind, and of the harness itself; `make test-faults` tries many."""

from __future__ import annotations

import json

import pytest

from drq_sn.runs.reader import read_record
from tests import fault_injection
from tests.fault_injection import (
    FAULTS,
    SETTINGS,
    Faults,
    LostError,
    Trial,
    checkpoint_frames,
    differences,
    resumed_frame,
)

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    ("fault", "setting"),
    [
        ("kill while writing", "one thread"),
        *(
            pytest.param(fault, "one thread", marks=pytest.mark.slow)
            for fault in FAULTS
            if fault != "kill while writing"
        ),
        pytest.param("kill at a random moment", "two threads", marks=pytest.mark.slow),
        pytest.param("kill at a random moment", "MuJoCo", marks=pytest.mark.slow),
    ],
)
def test_no_run_is_lost(faults, fault, setting):
    trial = faults.try_one(1, fault, setting)
    if trial.outcome == "skipped":
        pytest.skip(trial.problem)
    assert trial.outcome in ("identical", "announced"), str(trial)


@pytest.mark.parametrize(
    ("mutation", "problem"),
    [
        ("no_resume", "started over, although there was a checkpoint of frame"),
        pytest.param("other_random_numbers", "ended with another result: train.csv:", marks=pytest.mark.slow),
    ],
)
def test_a_version_that_does_not_resume_is_reported(tmp_path, mutation, problem):
    trial = Faults(tmp_path, mutation=mutation).try_one(1, "kill at a random moment", "one thread")
    assert trial.exit_code == -9
    assert trial.outcome == "lost"
    assert trial.problem.startswith(problem)


@pytest.mark.slow
def test_a_kill_that_does_not_land_is_reported(faults, monkeypatch):
    reference, _ = faults._reference("one thread")
    monkeypatch.setitem(faults._references, "one thread", (reference, {"write": 10**9}))
    trial = faults.try_one(1, "kill while writing", "one thread")
    assert (trial.outcome, trial.problem) == ("lost", "the kill did not land: exit code 0")


@pytest.mark.slow
def test_a_run_that_had_finished_need_not_resume(faults, tmp_path):
    trial, (_, opportunities) = Trial(1, "", "one thread", run_dir=tmp_path / "run"), faults._reference("one thread")
    often = SETTINGS["one thread"].often
    faults._train(trial, often, stage="replace", number=opportunities["replace"])  # the last rename
    assert (trial.exit_code, read_record(trial.run_dir)["status"]) == (-9, "finished")
    assert checkpoint_frames(trial.run_dir)
    assert (faults._resume(trial, often), trial.resumed_frame) == ("identical", None)


@pytest.mark.slow
def test_a_run_that_does_not_end_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(fault_injection, "LIMIT_SECONDS", 0.0)
    trial = Faults(tmp_path).try_one(1, "SIGTERM", "one thread")
    assert trial.outcome == "lost"
    assert trial.problem.startswith("no end within 0.0 s")


@pytest.mark.parametrize(
    ("resumed", "accepted", "problem"),
    [
        ([120], [120], None),
        ([], [], None),
        ([], [120], "started over, although there was a checkpoint of frame 120"),
        ([80], [120], r"resumed at frame \[80\]"),
        ([80, 120], [120], r"resumed at frame \[80, 120\]"),
        ([0], [0], r"resumed at frame \[0\]"),
        ([120], [], r"resumed at frame \[120\]"),
    ],
)
def test_a_resumed_run_must_have_continued_from_its_checkpoint(tmp_path, resumed, accepted, problem):
    entries = [{"frame": frame} for frame in resumed]
    (tmp_path / "run.json").write_text(json.dumps({"resumed": entries} if entries else {}))
    if problem is None:
        assert resumed_frame(tmp_path, accepted) == (accepted[0] if accepted else None)
    else:
        with pytest.raises(LostError, match=problem):
            resumed_frame(tmp_path, accepted)


def test_checkpoints_are_found_by_their_manifests(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    for name in ("000000060.json", "000000020.json", "000000080.pt", ".000000080.json.7"):
        (tmp_path / "checkpoint" / name).touch()
    assert checkpoint_frames(tmp_path) == [40, 120]


def test_differences_are_found_in_values_and_in_names():
    expected = {"train.csv:frame": ("100", "200"), "weights.pt:w": b"ab"}
    assert differences(dict(expected), expected) == []
    assert differences(expected | {"weights.pt:w": b"ac"}, expected) == ["weights.pt:w"]
    assert differences(expected | {"train.csv:new": ()}, expected) == ["train.csv:new"]
    assert differences({"train.csv:frame": ("100",)}, expected) == ["train.csv:frame", "weights.pt:w"]


def test_rows_before_a_gap_must_be_those_of_the_reference(tmp_path):
    (tmp_path / "train.csv").write_text("frame,episode_return\n100,1\n200,2\n")
    reference = {"train.csv:frame": ("100", "200"), "train.csv:episode_return": ("1", "3")}
    result = reference | {"train.csv:episode_return": ("1", "2")}
    fault_injection.require_same_before(100, tmp_path, result, reference)
    for other in ({"train.csv:episode_return": ("0", "2")}, {"train.csv:frame": ("100",)}):
        with pytest.raises(LostError, match="differs before the gap"):
            fault_injection.require_same_before(100, tmp_path, result | other, reference)
