"""How commands end: one line, and an exit code of its own."""

from __future__ import annotations

import errno
import os
import signal
import types

import pytest

from drq_sn.cli.running import exit_codes
from drq_sn.cli.running.checkpointing import Session
from drq_sn.cli.running.exit_codes import exit_on_expected_errors
from drq_sn.cli.running.signals import SignalHandler, Stopped
from drq_sn.runs.checkpoints import CheckpointsUnreadable
from drq_sn.training.loop import TrainingDiverged
from drq_sn.types import SimulationDiverged
from drq_sn.validation import InvalidInput


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InvalidInput("x must be 4, got 3"), 2, "error: x must be 4, got 3"),
        (TrainingDiverged(1200), 3, "detected at frame 1200"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            4,
            "error: no space left on device; the last checkpoint is intact",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 4, "disk quota exceeded"),
        (SimulationDiverged("x: the simulation diverged"), 1, "error: x: the simulation diverged"),
        (CheckpointsUnreadable("run/checkpoint cannot be read"), 1, "error: run/checkpoint cannot be read"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Stopped(signal.SIGINT), 130, "stopped by SIGINT; rerun the same command to resume"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
)
def test_every_ending_has_its_code_and_line(capsys, error, code, line):
    with pytest.raises(SystemExit) as end, exit_on_expected_errors():
        raise error
    assert end.value.code == code
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_other_errors_are_not_hidden():
    with pytest.raises(PermissionError), exit_on_expected_errors():
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_stalled_process_ends_even_if_its_record_cannot_be_written(tmp_path, monkeypatch, capfd):
    def end(code):
        raise SystemExit(code)

    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exit_codes.os, "_exit", end)
    monkeypatch.setattr(exit_codes, "write_json", write)
    monkeypatch.setattr(exit_codes.threading, "Timer", lambda *_: types.SimpleNamespace(start=lambda: None))
    with pytest.raises(SystemExit) as ended:
        exit_codes.exit_stalled("the environment hangs", tmp_path)
    assert ended.value.code == exit_codes.ExitCode.STALLED
    assert "error: the environment hangs; stack:" in capfd.readouterr().err


@pytest.fixture
def default_interrupt():
    """Python's own handler of SIGINT, also where this process was started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_is_noted_and_the_second_does_what_it_always_did(default_interrupt):
    signals = SignalHandler()
    with signals.installed():
        signals.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped):
            signals.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is default_interrupt


def answer(signal_number):
    """What a request to stop makes of a signal: its exit code, or None."""
    signals = SignalHandler()
    with signals.installed():
        signal.raise_signal(signal_number)
        try:
            signals.check()
        except Stopped as stopped:
            return stopped.exit_code
    return None


@pytest.mark.parametrize("signal_number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_closed_terminal_stops_a_run_but_not_under_nohup_and_what_a_launcher_listens_to_is_heard(signal_number):
    heard = []
    before = signal.signal(signal_number, lambda number, frame: heard.append(number))
    try:
        assert answer(signal_number) == 128 + signal_number
        signal.raise_signal(signal_number)  # again theirs
        assert heard == [signal_number]
        signal.signal(signal_number, signal.SIG_IGN)
        assert answer(signal_number) is None
    finally:
        signal.signal(signal_number, before)


class Clock:
    """Stands for agent, replay, loop and store: only their counters matter here."""

    step, action_repeat, num_slots, saved_slots, capacity = 0, 2, 0, 0, 100


@pytest.mark.parametrize(
    ("seconds", "step", "slots", "due"),
    [
        (0, 0, 0, False),
        (299, 0, 0, False),
        (301, 0, 0, True),
        (0, 24, 0, False),
        (0, 25, 0, True),
        (0, 0, 50, False),
        (0, 0, 51, True),
    ],
)
def test_a_checkpoint_is_due_by_time_by_frames_and_before_the_ring_overwrites_what_is_not_saved(
    monkeypatch, seconds, step, slots, due
):
    now = [1000.0]
    monkeypatch.setattr("drq_sn.cli.running.checkpointing.time.monotonic", lambda: now[0])
    clock = Clock()
    session = Session(clock, clock, clock, clock, "", 300, 50, _saved_at=1000.0)
    now[0] += seconds
    clock.step, clock.num_slots = step, slots
    assert session.is_due() == due
