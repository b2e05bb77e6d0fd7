"""Records of runs: how they ended, and where they were resumed."""

from __future__ import annotations

import json
import re

import pytest

from drq_sn.cli.running.callback import CallbackFailed
from drq_sn.cli.running.run_dir import claimed, recorded
from drq_sn.cli.running.signals import Stopped
from drq_sn.types import SimulationDiverged

HERE = {
    "task": "t",
    "versions": {"mujoco": "3.11.0"},
    "gl": {"renderer": "a"},
    "device": "d",
    "first_frame_sha256": "aa",
}


def begin(path, description, frame):
    with recorded(path, description, frame):
        pass
    return json.loads((path / "run.json").read_text())


def test_what_a_run_was_made_by_before_is_kept(tmp_path):
    begin(tmp_path, {**HERE, "git_commit": "1"}, None)
    earlier = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**earlier, "started": "2020-01-01T00:00:00+00:00"}))
    there = {**HERE, "git_commit": "1", "versions": {"mujoco": "3.17.0"}, "first_frame_sha256": "ff"}
    begin(tmp_path, there, 1000)
    record = begin(tmp_path, there, 2000)
    assert record["versions"] == {"mujoco": "3.17.0"}
    assert record["started"] == "2020-01-01T00:00:00+00:00"
    first, second = record["resumed"]
    assert (first["frame"], first["before"]) == (1000, {"versions": {"mujoco": "3.11.0"}, "first_frame_sha256": "aa"})
    assert (second["frame"], "before" in second) == (2000, False)


def test_an_older_record_lacks_what_nobody_wrote(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"status": "interrupted", "versions": HERE["versions"]}))
    (resumed,) = begin(tmp_path, {**HERE, "git_commit": "1"}, 500)["resumed"]
    assert "before" not in resumed


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Stopped(15), "interrupted", None),
        (CallbackFailed(), "interrupted", None),
        (KeyboardInterrupt(), "interrupted", None),
        (SimulationDiverged("it diverged"), "failed", "it diverged"),
        (ZeroDivisionError("a bug"), "failed", "Traceback .*ZeroDivisionError: a bug\n"),
    ],
)
def test_the_record_says_how_a_run_ended(tmp_path, error, status, message):
    with pytest.raises(type(error)), recorded(tmp_path, {}, None):
        raise error
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == status
    assert re.fullmatch(message or "", record.get("error", ""), re.DOTALL)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_run_killed_in_its_first_write_can_be_started_again(tmp_path, fresh):
    (tmp_path / ".run.json.4711").write_text("{")
    (tmp_path / ".weights.pt.4711").write_text("")
    with claimed(tmp_path, fresh) as lock:
        assert lock.path == tmp_path
        assert not list(tmp_path.glob("*.4711"))
