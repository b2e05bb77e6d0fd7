"""Two processes never train in one directory, and no dead process keeps a run from being resumed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from drq_sn.cli.running.lock import LOCK, MARKER, RunDirectoryLost, RunLock, move_to_backup
from drq_sn.cli.running.run import run
from drq_sn.cli.running.run_dir import claimed
from drq_sn.validation import InvalidInput
from tests.builders import ROOT, raising

HERE = rf"process {os.getpid()} on {socket.gethostname()}"
NO_FLOCK = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]
WITHOUT_FLOCK = """
import fcntl, os, signal, sys
from pathlib import Path

def refuse(*_):
    raise OSError(95, "Operation not supported")

fcntl.flock = refuse
from drq_sn.cli.running.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("locked", flush=True)
signal.pause()
"""


@pytest.fixture
def lock():
    """`lock(path)`, released at the end of the test."""
    locks = []

    def acquire(path):
        locks.append(RunLock(path))
        return locks[-1]

    yield acquire
    for each in locks:
        each.close()


@pytest.fixture(params=NO_FLOCK, ids=errno.errorcode.get)
def without_flock(request, monkeypatch):
    """A file system without `flock`."""

    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr("drq_sn.cli.running.lock.MARKER_SECONDS", 0.1)


def refused(path):
    with pytest.raises(InvalidInput) as error:
        RunLock(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path, lock):
    first = lock(tmp_path)
    assert refused(tmp_path) == f"{tmp_path} is locked by {HERE}; use another run_dir"
    first.close()
    lock(tmp_path).verify()


def test_deleting_the_file_lets_nobody_in_and_the_holder_puts_it_back(tmp_path, lock):
    first = lock(tmp_path)
    (tmp_path / LOCK).unlink()
    assert refused(tmp_path) == f"{tmp_path} is locked by another process; use another run_dir"
    first.verify()
    assert HERE in refused(tmp_path)
    (tmp_path / LOCK).write_text("")
    first.verify()
    assert HERE in refused(tmp_path)


def test_another_machine_that_got_in_after_the_file_was_deleted_ends_this_run(tmp_path, lock, monkeypatch):
    first = lock(tmp_path)
    (tmp_path / LOCK).unlink()
    with monkeypatch.context() as patch:  # locks of directories are not seen by other machines
        patch.setattr(RunLock, "_lock_directory", lambda self: contextlib.ExitStack())
        patch.setattr(socket, "gethostname", lambda: "node7")
        second = lock(tmp_path)
    with pytest.raises(RunDirectoryLost, match=rf"taken over by process {os.getpid()} on node7; this process stops"):
        first.verify()
    second.verify()


def test_a_directory_that_was_moved_is_lost_to_its_holder_alone(tmp_path, lock):
    run_dir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run_dir.mkdir()
    first = lock(run_dir)
    run_dir.rename(elsewhere)
    with pytest.raises(RunDirectoryLost, match="was moved or taken over by another process"):
        first.verify()
    run_dir.mkdir()
    second = lock(run_dir)
    with pytest.raises(RunDirectoryLost, match="was moved or taken over by process"):
        first.verify()
    second.verify()


def test_a_disk_that_fails_for_a_moment_does_not_end_a_run(tmp_path, lock, monkeypatch):
    first = lock(tmp_path)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fail)
    first.verify()


@pytest.mark.parametrize("content", ["", "4", "99\nnode7\nabc\n", "\0" * 1000])
def test_what_a_killed_process_left_in_the_file_keeps_nobody_out(tmp_path, lock, content):
    (tmp_path / LOCK).write_text(content)
    lock(tmp_path).verify()
    assert (tmp_path / LOCK).read_text().splitlines()[:2] == [str(os.getpid()), socket.gethostname()]


@pytest.mark.parametrize("put", [Path.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_a_lock_that_is_no_file_is_one_line(tmp_path, put):
    put(tmp_path / LOCK)
    assert refused(tmp_path).startswith(f"{tmp_path / LOCK} must be a writable file: ")


def test_without_flock_a_marker_keeps_others_out(tmp_path, lock, without_flock):
    first = lock(tmp_path)
    assert f"is locked by {HERE}; use another run_dir, or delete {tmp_path / MARKER} if" in refused(tmp_path)
    (tmp_path / LOCK).unlink()
    assert HERE in refused(tmp_path)
    first.verify()
    assert HERE in refused(tmp_path)
    first.close()
    lock(tmp_path).verify()


def test_without_flock_another_machine_is_named_with_what_to_do(tmp_path, lock, without_flock):
    marker = tmp_path / MARKER
    marker.write_text("99\nnode7\n123\n")
    assert refused(tmp_path) == (
        f"{tmp_path} is locked by process 99 on node7; use another run_dir, or delete {marker} if that process has "
        "ended (the file system has no locks)"
    )
    marker.unlink()
    lock(tmp_path).verify()


def test_without_flock_a_killed_process_of_this_machine_keeps_nobody_out(tmp_path, lock, monkeypatch):
    command = [sys.executable, "-c", WITHOUT_FLOCK, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "locked\n"
    monkeypatch.setattr(fcntl, "flock", raising(OSError(errno.ENOLCK, "")))
    with monkeypatch.context() as patch:
        patch.setattr("drq_sn.cli.running.lock.MARKER_SECONDS", 0.1)
        assert f"process {process.pid} on" in refused(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / MARKER).exists()
    lock(tmp_path).verify()


def test_other_errors_of_flock_are_not_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", raising(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        RunLock(tmp_path)


# backups


@pytest.fixture
def run_dir(tmp_path):
    """A run directory with files and folders."""
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    for name in ("config.yaml", "run.json", "checkpoint/000000001.pt"):
        (tmp_path / "run" / name).write_text(name)
    return tmp_path / "run"


def tree(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("flock", [True, False])
def test_a_run_is_moved_with_all_its_files_and_the_new_directory_is_locked(tmp_path, run_dir, lock, flock, monkeypatch):
    if not flock:
        monkeypatch.setattr(fcntl, "flock", raising(OSError(errno.ENOLCK, "")))
        monkeypatch.setattr("drq_sn.cli.running.lock.MARKER_SECONDS", 0.1)
    before = tree(run_dir)
    (tmp_path / "run.1").mkdir()
    first = lock(run_dir)
    assert first.move_to_backup() == tmp_path / "run.2"
    assert tree(tmp_path / "run.2") == before
    assert set(tree(run_dir)) <= {LOCK, MARKER}
    assert HERE in refused(run_dir)
    first.verify()
    lock(tmp_path / "run.2").verify()
    assert first.move_to_backup() is None


@pytest.mark.parametrize("call", ["rename", "mkdir"])
def test_a_kill_while_a_run_is_moved_leaves_it_whole(tmp_path, run_dir, lock, monkeypatch, call):
    before = tree(run_dir)
    first, original = lock(run_dir), getattr(Path, call)

    def killed(self, *arguments, **options):
        if call == "rename":
            original(self, *arguments, **options)
        raise KeyboardInterrupt  # stands for SIGKILL

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, killed)
        with pytest.raises(KeyboardInterrupt):
            first.move_to_backup()
    first.close()
    left = tree(tmp_path / "run.1")
    del left[LOCK]
    assert left == before
    assert not run_dir.exists()


def test_a_linked_run_is_moved_where_it_is(tmp_path, run_dir):
    (tmp_path / "link").symlink_to(run_dir)
    assert move_to_backup(tmp_path / "link") == tmp_path / "run.1"
    assert (tmp_path / "link").resolve() == run_dir
    assert list(run_dir.iterdir()) == []


def test_a_mount_point_is_one_line_and_keeps_its_files(run_dir, monkeypatch):
    before = tree(run_dir)
    monkeypatch.setattr(Path, "rename", raising(OSError(errno.EBUSY, "Device busy")))
    with pytest.raises(InvalidInput, match=r"cannot be moved to .*run.1 \(Device busy\); move its files yourself"):
        move_to_backup(run_dir)
    assert tree(run_dir) == before


# runs


@pytest.mark.parametrize(
    "name", ["notes.txt", "config.yaml", "run.json", "checkpoint/000000001.pt", "seed_1/config.yaml"]
)
def test_fresh_refuses_a_directory_that_is_no_run(tmp_path, name):
    path = tmp_path / "home" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"project": "mine"}')
    before = tree(tmp_path)
    with pytest.raises(InvalidInput) as error, claimed(tmp_path / "home", fresh=True):
        pass
    expected = f"run_dir={tmp_path / 'home'} holds files but no run; use another run_dir, or move them yourself"
    assert str(error.value) == expected
    assert tree(tmp_path) == before


def test_a_directory_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "iterdir", raising(PermissionError(13, "Permission denied")))
    expected = r"run_dir must be a readable directory, got .* \(Permission denied\)"
    with pytest.raises(InvalidInput, match=expected), claimed(tmp_path, fresh=False):
        pass


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.yaml", "agent:\n  _target_: drq_sn.agents.DrQ\n"), ("run.json", '{"status": "running"}')],
)
def test_fresh_moves_a_run_of_which_little_is_left(tmp_path, name, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text(content)
    with claimed(tmp_path / "run", fresh=True) as lock:
        assert set(tree(lock.path)) == {LOCK}
    assert tree(tmp_path / "run.1") == {name: content.encode()}


def test_a_run_that_lost_its_directory_stops_and_leaves_the_record_alone(configure, tmp_path, interrupt):
    def take_over():
        (tmp_path / "run" / LOCK).write_text("99\nnode7\nabc\n")
        (tmp_path / "run" / "run.json").write_text("theirs")

    interrupt(take_over, 30)
    with pytest.raises(RunDirectoryLost, match="taken over by process 99 on node7"):
        run(configure("checkpoint_every_frames=20"))
    assert (tmp_path / "run" / "run.json").read_text() == "theirs"
