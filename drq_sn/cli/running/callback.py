"""Passes evaluations to the callback of `drq_sn.train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drq_sn.runs.reader import EVAL, read_log
from drq_sn.types import Evaluation

MEAN = "episode_return_mean"


class CallbackFailed(Exception):
    """The caller's function raised an exception, which is the cause of this one; the run can be resumed."""


class EvaluationFeed:
    """Passes on every row of `eval.csv` once, in order; of a resumed run, also those before.

    Args:
        function: the caller's; None for no callback.
    """

    def __init__(self, function: Callable[[Evaluation], object] | None = None) -> None:
        self._function, self._last_frame = function, -1.0
        self._is_due = True

    def announce(self) -> None:
        """Note that there is a new row."""
        self._is_due = True

    def deliver(self, run_dir: Path) -> None:
        """Pass on what is new in `run_dir`; costs nothing if nothing was announced.

        Raises:
            CallbackFailed: if the function raised an exception.
        """
        if self._function is None or not self._is_due:
            return
        self._is_due = False
        log = read_log(run_dir / EVAL)
        columns = [log.columns[name] for name in log.columns if name.startswith("return_")]
        means = log.series(MEAN)
        for row, frame in enumerate(log.frames):
            if frame > self._last_frame and frame in means:
                self._last_frame = frame
                returns = tuple(float(column[row]) for column in columns if column[row])
                try:
                    self._function(Evaluation(int(frame), means[frame], returns))
                except Exception as error:
                    raise CallbackFailed from error
