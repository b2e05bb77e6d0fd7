"""Signals that ask a run to stop: it does so between two steps, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
OF_LAUNCHERS = (signal.SIGUSR1, signal.SIGUSR2)  # by which schedulers tell of an end, if somebody here listens to them


class Stopped(Exception):
    """A signal has come.

    Attributes:
        signal_number: which.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells and schedulers read it: 143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP."""
        return 128 + self.signal_number


class StopRequest:
    """Notes the first SIGTERM, SIGINT or SIGHUP; a second one ends the process the usual way."""

    def __init__(self) -> None:
        self._signal_number = 0
        self._previous: dict[int, Any] = {}

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self._signal_number:
            raise Stopped(self._signal_number)

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        self._signal_number = signal_number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over for a while."""
        heard = [number for number in OF_LAUNCHERS if callable(signal.getsignal(number))]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            heard.append(signal.SIGHUP)
        self._previous = {number: signal.signal(number, self._note) for number in (*SIGNALS, *heard)}
        try:
            yield
        finally:
            self._restore()
