"""Signals that stop a run, between two steps and with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LAUNCHER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # sent by schedulers before a time limit; taken over if handled


class Stopped(Exception):
    """The run was asked to stop by a signal.

    Attributes:
        signal_number: its number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as in shells: 143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP."""
        return 128 + self.signal_number


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
