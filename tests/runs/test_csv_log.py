"""Rows of a run's CSV files survive other programs."""

from __future__ import annotations

import errno
import itertools
import os
import warnings

import pytest

from drq_sn.runs import csv_log
from drq_sn.runs.csv_log import CsvLog
from drq_sn.runs.reader import read_log
from tests.builders import raising

WHOLE = "frame,a\n" + "".join(f"{i},{i}.5\n" for i in range(6))
HALF = "".join(WHOLE.splitlines(keepends=True)[:4])  # the header and three rows


def write_rows(log, numbers):
    for i in numbers:
        log.write({"frame": i, "a": i + 0.5})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.csv"


@pytest.fixture
def log(path):
    """A log with three rows on disk."""
    log = CsvLog(path, ("frame", "a"))
    write_rows(log, range(3))
    assert path.read_text() == log.text == HALF
    return log


def edit_in_place(path):
    path.write_text(path.read_text().replace("1.5", "9.5"))  # the same file, of the same size


def replace_file(path):  # as `sed -i` and many editors do
    new = path.with_name("new")
    new.write_text(path.read_text().replace("1.5", "9.5"))
    new.replace(path)


def append_note(path):
    with path.open("a") as file:
        file.write("# a note\n")


def save_older_version(path):
    path.write_text(path.read_text()[:-3])


def link(path):
    target = path.with_name("target.csv")
    path.rename(target)
    path.symlink_to(target)


def make_folder(path):
    path.unlink()
    path.mkdir()


def make_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    ("change", "warning", "is_kept"),
    [
        (lambda path: path.unlink(), "disappeared", False),
        (lambda path: path.rename(path.with_name("train.csv.1")), "disappeared", False),
        (lambda path: os.truncate(path, 0), "lost rows", False),
        (save_older_version, "lost rows", False),
        (edit_in_place, "was changed", True),
        (replace_file, "was changed", True),
        (append_note, "was changed", True),
        (link, "is a symbolic link", True),
        (make_folder, "was changed", True),
        (make_pipe, "was changed", True),
    ],
)
def test_rows_survive_and_what_others_wrote_is_kept(log, path, change, warning, is_kept, at_end):
    if at_end:
        write_rows(log, range(3, 6))
    change(path)
    before = path.read_text() if path.is_file() else None
    with pytest.warns(UserWarning, match=f"train.csv {warning}") as caught:
        log.close() if at_end else write_rows(log, range(3, 6))
    assert len(caught) == 1
    log.close()
    assert path.read_text() == log.text == WHOLE
    assert not path.is_symlink()
    backups = [path.with_name("train.csv.backup-1")] if is_kept else []
    assert list(path.parent.glob("*backup*")) == backups
    if is_kept and before is not None:
        assert backups[0].read_text() == before


def test_the_target_of_a_link_is_not_touched(log, path):
    link(path)
    with pytest.warns(UserWarning, match="is a symbolic link and kept as train.csv.backup-1"):
        write_rows(log, range(3, 6))
    assert path.with_name("target.csv").read_text() == HALF


def test_every_edited_version_is_kept(log, path):
    for i in range(3, 6):
        edit_in_place(path) if i == 3 else append_note(path)
        with pytest.warns(UserWarning, match=f"kept as train.csv.backup-{i - 2}"):
            write_rows(log, [i])
    assert path.read_text() == WHOLE


def test_a_file_saved_without_changes_is_left_alone(log, path):
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.replace(path)
    os.utime(path, (1, 1))
    write_rows(log, range(3, 6))
    log.close()
    assert path.read_text() == WHOLE
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("tail", ["", "3,3.5\n4,4.5\n", "3,3.5\n4,", "3,nan\n4,-1e-05\n5,inf\n"])
def test_a_resumed_run_drops_the_rows_after_its_checkpoint(path, tail):
    path.write_text(HALF + tail)
    log = CsvLog(path, ("frame", "a"), HALF)
    assert path.read_text() == HALF
    write_rows(log, range(3, 6))
    assert path.read_text() == WHOLE


@pytest.mark.parametrize(
    ("content", "warning", "is_kept"),
    [
        (None, "disappeared", False),
        (HALF[:-2], "lost rows", False),
        (HALF.replace("1.5", "9.5") + "3,3.5\n", "was changed", True),
        (HALF + "3,3.5\n# a note\n", "was changed", True),
        (HALF + "3,3.5\n\0\0\0\0", "was changed", True),
        ("\0" * len(HALF) + "3,3.5\n", "was changed", True),
    ],
)
def test_a_resumed_run_restores_the_rows_of_its_checkpoint(path, content, warning, is_kept):
    if content is not None:
        path.write_text(content)
    with pytest.warns(UserWarning, match=warning):
        log = CsvLog(path, ("frame", "a"), HALF)
    assert path.read_text() == HALF
    assert [file.read_text() for file in path.parent.glob("*backup*")] == ([content] if is_kept else [])
    write_rows(log, range(3, 6))
    assert path.read_text() == WHOLE


def test_a_resumed_run_does_not_write_through_a_link(path):
    target = path.with_name("target.csv")
    target.write_text(HALF + "3,3.5\n")
    path.symlink_to(target)
    with pytest.warns(UserWarning, match="is a symbolic link and kept as"):
        CsvLog(path, ("frame", "a"), HALF)
    assert target.read_text() == HALF + "3,3.5\n"
    assert (path.read_text(), path.is_symlink()) == (HALF, False)


def test_a_full_disk_leaves_no_half_row(log, path, monkeypatch):
    write, room = os.write, [2]

    def write_until_full(descriptor, data):
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: room.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(csv_log.os, "write", write_until_full)
        with pytest.raises(OSError, match="No space left"):
            write_rows(log, [3])
    assert path.read_text() == log.text == HALF
    log.close()  # without a warning
    write_rows(log, range(3, 6))
    assert path.read_text() == WHOLE


def test_a_full_disk_does_not_cost_the_edited_file(log, path, monkeypatch):
    edit_in_place(path)
    edited = path.read_text()

    def fail(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv_log, "write_atomically", fail)
        with pytest.raises(OSError, match="No space left"):
            write_rows(log, [3])
    assert path.read_text() == edited
    with pytest.warns(UserWarning, match="was changed"):
        log.close()
    assert path.read_text() == HALF


def test_a_file_that_cannot_be_opened_gets_its_rows_later(log, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(csv_log.os, "open", raising(PermissionError(errno.EACCES, "Permission denied")))
        write_rows(log, [3])
    assert path.read_text() == HALF
    with pytest.warns(UserWarning, match="lost rows"):
        write_rows(log, [4, 5])
    assert path.read_text() == WHOLE


def test_a_file_system_without_stable_inodes_costs_no_row(path, monkeypatch):
    numbers = itertools.count()
    monkeypatch.setattr(csv_log, "_signature", lambda status: (next(numbers),))
    log = CsvLog(path, ("frame", "a"))
    for i in range(6):
        write_rows(log, [i])
        assert path.read_text() == log.text
    log.close()
    assert path.read_text() == WHOLE


def test_what_is_read_is_what_was_written(log, path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_rows(log, range(3, 6))
        log.close()
    assert read_log(path).series("a") == {i: i + 0.5 for i in range(6)}
