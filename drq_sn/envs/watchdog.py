"""Detects an environment that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import dm_env
import numpy as np

from drq_sn.envs.wrappers import Wrapper

POLLS_PER_LIMIT = 10


class Watchdog(Wrapper):
    """Calls `on_stall` when a reset or step takes longer than `limit_seconds`; costs two assignments per step.

    Args:
        env: a `PixelStack`.
        limit_seconds: longest time a call may take.
        on_stall: called once, from another thread, with one line that names the call.
    """

    def __init__(self, env: Any, limit_seconds: float, on_stall: Callable[[str], None]) -> None:
        super().__init__(env)
        self._limit_seconds = limit_seconds
        self._on_stall = on_stall
        self._call: list[str] | None = None  # a new list for every call, so that calls differ in identity
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def reset(self) -> dm_env.TimeStep:
        """Start an episode."""
        return self._watched("reset", self._env.reset)

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one step."""
        return self._watched("step", self._env.step, action)

    def close(self) -> None:
        """Stop watching and close the environment."""
        self._closed.set()
        self._env.close()

    def _watched(self, name: str, call: Callable[..., dm_env.TimeStep], *arguments: Any) -> dm_env.TimeStep:
        self._call = [name]
        try:
            return call(*arguments)
        finally:
            self._call = None

    def _watch(self) -> None:
        previous, num_polls = None, 0
        while not self._closed.wait(self._limit_seconds / POLLS_PER_LIMIT):
            # polls instead of a clock: time during which the whole process is suspended does not count
            num_polls = num_polls + 1 if self._call is previous else 0
            previous = self._call
            if previous is not None and num_polls >= POLLS_PER_LIMIT:
                self._on_stall(f"the environment has not answered for {self._limit_seconds:g} s (in {previous[0]})")
                return
