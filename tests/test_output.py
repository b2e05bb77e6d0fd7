"""Broken output ends no command."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest

from tests.builders import TINY, read_csv

PRINTING = """
import subprocess, sys
from drq_sn.output import tolerate_broken_output
tolerate_broken_output()
tolerate_broken_output()
for i in range(3):
    print("out", i, flush=i == 1)
    print("err", i, file=sys.stderr)
print("x" * 100_000)
subprocess.run([sys.executable, "-c", "print('child', flush=True)"], check=True)
sys.exit(3)
"""
NEEDED = """
from drq_sn.output import require_written, tolerate_broken_output
tolerate_broken_output()
print("a result")
try:
    require_written()
except OSError:
    raise SystemExit(4)
"""
WITHOUT_STREAMS = """
import os, sys
from drq_sn.output import tolerate_broken_output
tolerate_broken_output()
print(sys.stderr.isatty(), flush=True)
print(sys.stdout.isatty(), file=sys.stderr)
sys.exit(3 if os.open(os.devnull, os.O_RDONLY) > 2 else 4)
"""
SHORT = [*TINY, "num_train_frames=200", "eval_every_frames=100", "num_threads=1"]


@contextlib.contextmanager
def broken_output(kind):
    """A file descriptor that cannot be written: a full disk, a pipe or a terminal that is closed."""
    if kind == "full disk":
        other, descriptor = None, os.open("/dev/full", os.O_WRONLY)
    else:
        other, descriptor = os.pipe() if kind == "pipe" else pty.openpty()
        os.close(other)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def run(*arguments, **streams):
    """A Python process; its `stdout` and `stderr` are captured unless they are given."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, *map(str, arguments)], **streams, text=True, timeout=600)


@pytest.mark.parametrize("kind", ["full disk", "pipe", "terminal"])
@pytest.mark.parametrize("names", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_a_process_and_its_children_outlive_their_output(kind, names):
    with broken_output(kind) as broken:
        result = run("-c", PRINTING, **dict.fromkeys(names, broken))
    assert result.returncode == 3  # 120 if the last flush failed
    if "stdout" not in names:
        assert result.stdout == f"out 0\nout 1\nout 2\n{'x' * 100_000}\nchild\n"
    if "stderr" not in names:
        assert result.stderr == "err 0\nerr 1\nerr 2\n"


def test_a_busy_terminal_that_does_not_block_is_not_waited_for():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        assert run("-c", PRINTING, stdout=writing).returncode == 3  # more than a pipe holds, and nobody reads
    finally:
        os.close(reading)
        os.close(writing)


def test_streams_closed_from_the_start():
    shell = ["sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, WITHOUT_STREAMS]
    assert subprocess.run(shell).returncode == 3


@pytest.mark.parametrize(("kind", "code"), [("full disk", 4), ("pipe", 0), ("terminal", 0)])
def test_a_printed_result_needs_room_but_no_reader(kind, code):
    with broken_output(kind) as broken:
        result = run("-c", NEEDED, stdout=broken)
    assert (result.returncode, result.stderr) == (code, "")


def train(tmp_path, *overrides, **streams):
    """Train with these streams; check that the run ended with all rows."""
    result = run("-m", "drq_sn.cli.main", "train", *SHORT, f"run_dir={tmp_path / 'run'}", *overrides, **streams)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert [row["frame"] for row in read_csv(tmp_path / "run" / "eval.csv")] == ["0", "100", "200"]
    assert [row["frame"] for row in read_csv(tmp_path / "run" / "train.csv")] == ["100", "200"]
    return result


def test_a_run_on_a_full_disk_for_its_output_finishes(tmp_path):
    with broken_output("full disk") as broken:
        train(tmp_path, stdout=broken, stderr=broken)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_run_without_a_reader_finishes(tmp_path, kind):
    with broken_output(kind) as broken:  # videos and environments run in child processes
        train(tmp_path, "num_eval_processes=2", "video_every_frames=100", stdout=broken, stderr=broken)
    assert len(list((tmp_path / "run" / "video").glob("*.mp4"))) == 3


@pytest.mark.slow
def test_commands_into_head(tmp_path):
    """Commands whose output `head` stops reading after a line: all finish, with nothing on standard error."""
    commands = [
        ["sweep", *SHORT, "seed=1,2", f"run_dir={tmp_path}/runs/seed_${{seed}}", f"sweep_dir={tmp_path}/sweep"],
        ["evaluate", f"run={tmp_path}/runs/seed_1", "episodes=1", "device=cpu"],
        ["report", f"runs={tmp_path}/runs", f"out={tmp_path}/report"],
        ["doctor"],
        ["--help"],
        ["train", "--help"],
    ]
    for command in commands:
        pipe = '"$@" | head -n 0; exit ${PIPESTATUS[0]}'
        shell = ["bash", "-c", pipe, "bash", sys.executable, "-m", "drq_sn.cli.main", *command]
        result = subprocess.run(shell, capture_output=True, text=True, timeout=600)
        assert (result.returncode, result.stderr) == (0, ""), command
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.slow
def test_an_evaluation_onto_a_full_disk_fails_with_a_line(tmp_path):
    train(tmp_path)
    with broken_output("full disk") as broken:
        result = run("-m", "drq_sn.cli.evaluate", f"run={tmp_path / 'run'}", "episodes=1", "device=cpu", stdout=broken)
    assert result.returncode == 4
    assert result.stderr.startswith("error: no space left on device")
    assert result.stderr.count("\n") == 1
