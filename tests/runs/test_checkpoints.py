"""Checkpoints: what is written, what is kept, what is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import pathlib
import warnings
import zipfile

import numpy as np
import pytest
import torch

from drq_sn.runs import checkpoints
from drq_sn.runs.checkpoints import CheckpointStore, CheckpointsUnreadable, _digest, refuse_foreign_state
from drq_sn.validation import InvalidInput
from tests.builders import make_replay, play_episodes, stored_transitions


@pytest.fixture
def replay():
    return make_replay(capacity=60, n_step=2)


def save(tmp_path, replay, *steps):
    """A checkpoint at each of `steps`, with one more episode of 9 steps before each."""
    store = CheckpointStore(tmp_path)
    for step in steps:
        play_episodes(replay, [9])
        store.save(step, {"step": step, "weights": torch.full((3,), float(step))}, replay)
    return store


def files(tmp_path, pattern):
    return sorted(path.name for path in (tmp_path / "checkpoint").glob(pattern))


def newest(tmp_path):
    store = CheckpointStore(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = store.newest()
    return store, checkpoint, [str(warning.message) for warning in caught]


def test_what_is_saved_is_found(tmp_path, replay):
    save(tmp_path, replay, 10, 20)
    store, checkpoint, said = newest(tmp_path)
    assert (checkpoint.step, checkpoint.state["weights"].tolist(), said) == (20, [20.0] * 3, [])
    restored = make_replay(capacity=60, n_step=2)
    state = replay.state_dict()
    restored.restore(state, store.replay_parts(checkpoint.parts))
    assert stored_transitions(restored) == stored_transitions(replay)


def test_nothing_saved_is_nothing_found(tmp_path):
    assert CheckpointStore(tmp_path).newest() is None


def test_a_checkpoint_writes_what_is_new_and_not_the_whole_replay(tmp_path, replay):
    store = CheckpointStore(tmp_path)
    play_episodes(replay, [9, 9, 9, 9])
    store.save(1, {}, replay)
    first = store.bytes_written
    store.save(2, {}, replay)
    nothing_new = store.bytes_written
    play_episodes(replay, [9])
    store.save(3, {}, replay)
    one_more = store.bytes_written
    assert nothing_new < one_more < first
    assert files(tmp_path, "replay_*") == ["replay_000000000_000000040.npz", "replay_000000040_000000050.npz"]


def test_large_stretches_are_written_in_parts(tmp_path, replay, monkeypatch):
    monkeypatch.setattr(checkpoints, "PART_SLOTS", 16)
    save(tmp_path, replay, 1, 2, 3)
    assert files(tmp_path, "replay_*")[-1] == "replay_000000020_000000030.npz"
    play_episodes(replay, [29])
    CheckpointStore(tmp_path).save(4, {}, replay)
    assert "replay_000000016_000000032.npz" in files(tmp_path, "replay_*")


def test_two_checkpoints_are_kept_and_parts_that_the_ring_has_overwritten_go(tmp_path, replay):
    save(tmp_path, replay, *range(1, 15))
    assert files(tmp_path, "*.json") == ["000000013.json", "000000014.json"]
    assert files(tmp_path, "*.pt") == ["000000013.pt", "000000014.pt"]
    oldest_needed = 13 * 10 - 60  # by the checkpoint before the newest
    assert files(tmp_path, "replay_*")[0] == f"replay_{oldest_needed:09d}_{oldest_needed + 10:09d}.npz"
    assert len(list((tmp_path / "checkpoint").iterdir())) == 4 + 7


def damage(path, kind):
    data = bytearray(path.read_bytes())
    if kind == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()


@pytest.mark.parametrize("kind", ["truncate", "flip", "remove"])
@pytest.mark.parametrize("name", ["000000003.pt", "000000003.json", "replay_000000020_000000030.npz"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, replay, kind, name):
    save(tmp_path, replay, 1, 2, 3)
    damage(tmp_path / "checkpoint" / name, kind)
    store, checkpoint, said = newest(tmp_path)
    assert checkpoint.step == 2
    assert all("trying the previous checkpoint" in line for line in said)
    assert bool(said) == ((kind, name) != ("remove", "000000003.json"))
    store.save(3, {}, replay)
    assert newest(tmp_path)[1].step == 3


@pytest.mark.parametrize("kind", ["truncate", "flip", "remove"])
def test_an_older_damaged_part_is_left_out_with_a_warning(tmp_path, replay, kind):
    save(tmp_path, replay, 1, 2, 3)
    damage(tmp_path / "checkpoint" / "replay_000000010_000000020.npz", kind)
    _, checkpoint, said = newest(tmp_path)
    assert checkpoint.step == 3
    assert checkpoint.parts == ["replay_000000000_000000010.npz", "replay_000000020_000000030.npz"]
    assert len(said) == 1
    assert "resumes without these steps" in said[0]


def test_a_damaged_checkpoint_is_not_kept_in_place_of_a_good_one(tmp_path, replay):
    save(tmp_path, replay, 1, 2, 3)
    damage(tmp_path / "checkpoint" / "000000003.pt", "flip")
    store, *_ = newest(tmp_path)
    store.save(4, {}, replay)
    assert files(tmp_path, "*.json") == ["000000002.json", "000000004.json"]
    assert files(tmp_path, "*.pt") == ["000000002.pt", "000000004.pt"]


def test_a_checkpoint_that_stands_is_not_written_again(tmp_path, replay, monkeypatch):
    store = save(tmp_path, replay, 1)
    read, *_ = newest(tmp_path)
    monkeypatch.setattr(checkpoints, "write_atomically", lambda *_: 1 / 0)
    store.save(1, {}, replay)
    read.save(1, {}, replay)
    with pytest.raises(ZeroDivisionError):
        read.save(2, {}, replay)


@pytest.fixture
def failing(monkeypatch):
    """`failing(errno.EIO, "name", ...)`: files whose names begin so can't be read from now on."""

    def fail(number, *names):
        def read(self):
            if self.name.startswith(names):
                raise OSError(number, os.strerror(number))
            return original(self)

        original = pathlib.Path.read_bytes
        monkeypatch.setattr(pathlib.Path, "read_bytes", read)

    return fail


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("name", ["000000003.pt", "000000003.json", "replay_000000020"])
def test_an_unreadable_checkpoint_gives_way_to_the_one_before(tmp_path, replay, failing, number, name):
    save(tmp_path, replay, 1, 2, 3)
    failing(number, name)
    store, checkpoint, said = newest(tmp_path)
    assert checkpoint.step == 2
    assert len(said) == 1
    assert "trying the previous checkpoint" in said[0]
    store.save(3, {}, replay)


def test_a_disk_that_fails_for_a_moment_is_not_taken_for_damage(tmp_path, replay, failing):
    save(tmp_path, replay, 1, 2)
    failing(errno.EIO, "")
    with (
        pytest.warns(UserWarning, match="unreadable"),
        pytest.raises(CheckpointsUnreadable, match=r"\(Input/output error\); nothing was"),
    ):
        CheckpointStore(tmp_path).newest()


def test_a_directory_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, replay, monkeypatch):
    save(tmp_path, replay, 1)

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(CheckpointsUnreadable, match="Permission denied"):
        CheckpointStore(tmp_path).newest()


def test_a_replay_that_fails_while_it_is_restored_is_not_taken_for_damage(tmp_path, replay):
    store = save(tmp_path, replay, 1)
    (name,) = files(tmp_path, "replay_*")
    (tmp_path / "checkpoint" / name).unlink()
    with pytest.raises(CheckpointsUnreadable, match="No such file"):
        list(store.replay_parts([name]))


def put_subdirectory(path):
    path.mkdir()
    (path / "note.txt").write_text("mine")


def put_loop(path):
    path.symlink_to(path.name)


def put_pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("put", [put_subdirectory, put_loop, put_pipe])
def test_what_is_no_file_ends_no_run(tmp_path, replay, put):
    save(tmp_path, replay, 1)
    folder = tmp_path / "checkpoint"
    for name in ("000000009.json", "000000008.pt", "replay_000000000_000000005.npz", "other"):
        put(folder / name)
    store, checkpoint, said = newest(tmp_path)
    assert (checkpoint.step, len(said)) == (1, 1)
    for step in (2, 3):
        store.save(step, {}, replay)
    assert newest(tmp_path)[1].step == 3
    store.delete()
    assert os.path.lexists(folder / "other")
    assert not list(folder.glob("*[!9].json"))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"[" * 100_000, b"\xff", b'{"sha256": 1, "body": 2}', b'{"sha256": 1, "body": {}}']
)
def test_an_older_manifest_with_any_content_ends_no_run(tmp_path, replay, content):
    store = save(tmp_path, replay, 1, 2)
    (tmp_path / "checkpoint" / "000000002.json").write_bytes(content)
    play_episodes(replay, [9])
    store.save(3, {}, replay)
    assert files(tmp_path, "*.json") == ["000000001.json", "000000003.json"]
    store, checkpoint, said = newest(tmp_path)
    assert (checkpoint.step, said) == (3, [])


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.pop("step"),
        lambda body: body.update(step="x"),
        lambda body: body.update(files={}),
        lambda body: body.update(files={"../weights.pt": body["files"].popitem()[1]}),
        lambda body: next(iter(body["replay"].values())).pop("end"),
        lambda body: next(iter(body["replay"].values())).update(first=None),
        lambda body: next(iter(body["files"].values())).pop("bytes"),
    ],
)
def test_a_signed_manifest_without_what_it_needs_gives_way_too(tmp_path, replay, change):
    save(tmp_path, replay, 1, 2)
    rewrite(tmp_path, change)
    (tmp_path / "weights.pt").write_bytes((tmp_path / "checkpoint" / "000000002.pt").read_bytes())
    _, checkpoint, said = newest(tmp_path)
    assert (checkpoint.step, len(said)) == (1, 1)


def test_files_that_cannot_be_removed_and_files_of_others_end_no_run(tmp_path, replay, monkeypatch):
    store = save(tmp_path, replay, 1, 2)
    (tmp_path / "checkpoint" / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint" / ".000000003.pt.77").write_bytes(b"cut short")

    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", refuse)
        with pytest.warns(UserWarning, match=r"cannot be removed \(Operation not"):
            store.save(3, {}, replay)
    store.save(4, {}, replay)
    assert files(tmp_path, "*.json") == ["000000003.json", "000000004.json"]
    assert files(tmp_path, ".*") == []
    store.delete()
    assert files(tmp_path, "*") == ["notes.txt"]


def test_all_damaged_is_nothing_found(tmp_path, replay):
    save(tmp_path, replay, 1, 2)
    for path in (tmp_path / "checkpoint").glob("*.pt"):
        damage(path, "flip")
    _, checkpoint, said = newest(tmp_path)
    assert checkpoint is None
    assert len(said) == 2


def rewrite(tmp_path, change):
    """Change the newest manifest and sign it again, as somebody who knows the format would."""
    path = sorted((tmp_path / "checkpoint").glob("*.json"))[-1]
    body = json.loads(path.read_text())["body"]
    change(body)
    path.write_text(json.dumps({"sha256": _digest(body), "body": body}))


def test_a_newer_format_is_refused(tmp_path, replay):
    save(tmp_path, replay, 1)
    rewrite(tmp_path, lambda body: body.update(format=2))
    with pytest.raises(InvalidInput, match=r"written by a newer version \(format 2; this one reads 1\)"):
        CheckpointStore(tmp_path).newest()


class Malicious:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_checkpoint_never_runs_code(tmp_path, replay, capsys):
    save(tmp_path, replay, 1)
    path = tmp_path / "checkpoint" / "000000001.pt"
    torch.save(Malicious(), path)
    entry = {"bytes": path.stat().st_size, "sha256": checkpoints.hashlib.sha256(path.read_bytes()).hexdigest()}
    rewrite(tmp_path, lambda body: body.update(files={path.name: entry}))
    with pytest.raises(InvalidInput, match="must hold plain tensors and numbers"):
        CheckpointStore(tmp_path).newest()
    assert "code ran" not in capsys.readouterr().out


def write_objects(path):
    np.savez(path, frames=np.array([Malicious()], dtype=object))


def write_bomb(path):
    np.savez_compressed(path, frames=np.zeros(1_000_000))


def write_lie(path):
    """An array whose header promises more than there is."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**18,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("frames.npy", header.getvalue())


def write_text(path):
    path.write_text("frame,step")


def write_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize("write", [write_objects, write_bomb, write_lie, write_text, write_array])
def test_a_foreign_replay_is_one_line_and_runs_no_code(tmp_path, replay, capsys, write):
    store = save(tmp_path, replay, 1)
    (name,) = files(tmp_path, "replay_*")
    write(tmp_path / "checkpoint" / name)
    with pytest.raises(InvalidInput, match=f"{name} must hold plain arrays: ") as error:
        list(store.replay_parts([name]))
    assert "\n" not in str(error.value)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("arrays", [{}, {"frames": np.zeros(3)}, {"episode_starts": np.array(["a"])}])
def test_a_replay_of_other_software_is_one_line(tmp_path, replay, arrays):
    store = save(tmp_path, replay, 1)
    restored, state = make_replay(capacity=60, n_step=2), replay.state_dict()
    with pytest.raises(InvalidInput, match="does not hold the state") as error, refuse_foreign_state(store.folder):
        restored.restore(state, [(0, arrays)])
    assert "\n" not in str(error.value)


def test_a_disk_that_is_full_harms_nothing(tmp_path, replay, monkeypatch):
    store = save(tmp_path, replay, 1, 2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint").iterdir()}
    calls = []

    def full(file):
        calls.append(file)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    play_episodes(replay, [9])
    monkeypatch.setattr("drq_sn.runs.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.save(3, {}, replay)
    monkeypatch.undo()
    after = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint").iterdir()}
    assert before.items() <= after.items()
    assert not [name for name in after if name.startswith(".")]
    assert newest(tmp_path)[1].step == 2
