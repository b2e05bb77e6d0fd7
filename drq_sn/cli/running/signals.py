"""Signals that end a command: at once while it is imported, and a run between two steps, with a checkpoint.

Imports the standard library only: entry points call `exit_on_signals` before the seconds that importing torch takes.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LAUNCHER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # sent by schedulers before a time limit; taken over if handled
SIGNALED = 128  # exit codes of commands ended by a signal are this plus its number, as in shells


class Stopped(Exception):
    """The run was asked to stop by a signal.

    Attributes:
        exit_code: 128 plus the signal's number: 143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(_describe(signal_number))
        self.exit_code = SIGNALED + signal_number


class Interrupted(KeyboardInterrupt):
    """A signal ends the command where it is: outside training, or the second one within.

    Attributes:
        exit_code: as that of `Stopped`.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(_describe(signal_number))
        self.exit_code = SIGNALED + signal_number


def exit_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end this process at once: an exception could get lost within an import."""
    _handle(_exit)


@contextlib.contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Let the signals raise `Interrupted` while the `with` block lasts; they end the process at once afterwards."""
    _handle(_interrupt)
    try:
        yield
    finally:
        _handle(_exit)


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (*SIGNALS, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, handler)


def _exit(signal_number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed
        os.write(2, f"{_describe(signal_number)}\n".encode())
    os._exit(SIGNALED + signal_number)


def _interrupt(signal_number: int, _frame: FrameType | None) -> None:
    _handle(_exit)  # a second one does not wait for what the exception cleans up
    raise Interrupted(signal_number)


def _describe(signal_number: int) -> str:
    return f"stopped by {signal.Signals(signal_number).name}"


class SignalHandler:
    """Remembers the first SIGTERM, SIGINT or SIGHUP; a second one ends the process the usual way."""

    def __init__(self) -> None:
        self._signal_number = 0
        self._previous: dict[int, Any] = {}

    def check(self) -> None:
        """Raise `Stopped` if a signal was received."""
        if self._signal_number:
            raise Stopped(self._signal_number)

    def _note(self, signal_number: int, _frame: FrameType | None) -> None:
        self._signal_number = signal_number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals while the `with` block lasts."""
        numbers = [number for number in LAUNCHER_SIGNALS if callable(signal.getsignal(number))]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            numbers.append(signal.SIGHUP)
        self._previous = {number: signal.signal(number, self._note) for number in (*SIGNALS, *numbers)}
        try:
            yield
        finally:
            self._restore()
