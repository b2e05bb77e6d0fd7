"""Rows that take turns in worker processes."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from drq_sn.profiling.turns import Row, Worker, take_turns
from tests.builders import ROOT

pytestmark = pytest.mark.process  # rows are measured by workers
SERVED = """
import os
from drq_sn.profiling.turns import serve

class Served:
    def prepare(self, name="x"):
        print("a library prints")
        self.name, self.num_calls = name, 0
        return {"pid": os.getpid(), "code": serve.__code__.co_filename}

    def sample(self, fail_at=(), end_at=()):
        self.num_calls += 1
        if [self.name, self.num_calls] in fail_at:
            raise RuntimeError("out of memory\\nand a long explanation")
        if [self.name, self.num_calls] in end_at:
            os._exit(3)
        return {"name": self.name, "call": self.num_calls}

serve(Served)
"""


def row(name="x"):
    return Row({"name": name}, [sys.executable, "-c", SERVED], ROOT, {"name": name})


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_rows_take_turns_in_processes_that_stay_alive():
    rows = [row("a"), row("b")]
    turns = [(each.columns["name"], number, result) for each, number, result in take_turns(rows, 2, {})]
    assert [(name, number) for name, number, _ in turns] == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert [result for *_, result in turns[2:]] == [{"name": n, "call": c} for c in (1, 2) for n in ("a", "b")]
    pids = {result["pid"] for *_, result in turns[:2]}
    assert len(pids - {os.getpid()}) == 2
    assert not any(map(is_running, pids))


@pytest.mark.parametrize(
    ("sample", "error"),
    [({"fail_at": [["a", 2]]}, "out of memory"), ({"end_at": [["a", 2]]}, "its process ended with code 3")],
)
def test_a_row_that_fails_says_so_once_and_the_others_go_on(sample, error):
    turns = [(r.columns["name"], n, m) for r, n, m in take_turns([row("a"), row("b")], 3, sample) if n]
    assert [(name, number) for name, number, _ in turns] == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("b", 3)]
    assert turns[2][2] == {"error": error}


def test_an_interruption_ends_the_workers():
    turns = take_turns([row()], 5, {})
    _, _, prepared = next(turns)
    with pytest.raises(KeyboardInterrupt):
        turns.throw(KeyboardInterrupt)
    assert not is_running(prepared["pid"])


def test_a_worker_imports_the_code_it_is_told_to(tmp_path):
    (tmp_path / "drq_sn").mkdir()
    (tmp_path / "drq_sn" / "__init__.py").touch()
    shutil.copytree(ROOT / "drq_sn" / "profiling", tmp_path / "drq_sn" / "profiling")
    worker = Worker([sys.executable, "-c", SERVED], tmp_path)
    try:
        assert worker.call("prepare")["code"] == str(tmp_path / "drq_sn" / "profiling" / "turns.py")
    finally:
        worker.close()


def test_a_worker_whose_parent_is_gone_ends():
    worker = Worker([sys.executable, "-c", SERVED], ROOT)
    pid = worker.call("prepare")["pid"]
    worker._process.stdin.close()
    assert worker._process.wait(10) == 0
    assert not is_running(pid)
    worker.close()
