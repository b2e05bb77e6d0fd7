"""An environment in a process of its own, so that several render at once."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import dm_env
import numpy as np

START_SECONDS, CLOSE_SECONDS = 300.0, 5.0
PR_SET_PDEATHSIG = 1  # of Linux's prctl


class EnvironmentProcess:
    """Asks an environment elsewhere: `begin` or `step` first, then `receive`; many can be at work meanwhile.

    The process is a plain interpreter that imports environments and nothing else. It starts while
    the caller goes on, and ends with the caller, however that ends.

    Args:
        make_env: builds a `PixelStack`; a picklable callable.
        limit_seconds: the longest time that drawing may take.
    """

    def __init__(self, make_env: Callable[[], Any], limit_seconds: float = 60.0) -> None:
        self._make_env = make_env
        self._limit_seconds = limit_seconds
        self._start()

    def _start(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self.connection.send_bytes(pickle.dumps(self._make_env))
        self._is_ready = False

    def begin(self, random_state: str) -> None:
        """Ask for the episode that follows from `random_state` (see `PixelStack`); the first time, wait for the start.

        Raises:
            EOFError, OSError: if the process is gone; `restart` makes a new one. So do the next three.
        """
        if not self._is_ready:
            self._receive_within(START_SECONDS)
            self._is_ready = True
        self.connection.send(("begin", random_state))

    def step(self, action: np.ndarray) -> None:
        """Ask for a step."""
        self.connection.send(("step", action))

    def receive(self) -> dm_env.TimeStep:
        """The answer to `begin` or `step`; waits for it."""
        return self.connection.recv()

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the present state, (height, width, 3) uint8; waits for it."""
        self.connection.send(("render", (height, width)))
        return self._receive_within(self._limit_seconds)

    def _receive_within(self, seconds: float) -> Any:
        if not self.connection.poll(seconds):
            raise TimeoutError(f"the environment has not answered for {seconds:g} s")
        return self.connection.recv()

    def show_stack(self) -> None:
        """Let the process write to stderr where it is."""
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGUSR1)

    def restart(self) -> None:
        """Replace a process that is gone or hangs."""
        self._process.kill()
        self.close()
        self._start()

    def hang_up(self) -> None:
        """Let the process end, without waiting for it."""
        self.connection.close()

    def close(self) -> None:
        """End the process."""
        self.hang_up()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:  # it hangs in the simulator
            self._process.kill()
            self._process.wait()


def serve(connection: Connection) -> None:
    """Answer requests until the other end is gone."""
    try:
        env = pickle.loads(connection.recv_bytes())()
        answers = {
            "begin": lambda state: _begun(env, state),
            "step": env.step,
            "render": lambda size: env.render(*size),
        }
        connection.send("ready")
        while True:
            request, argument = connection.recv()
            connection.send(answers[request](argument))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _begun(env: Any, random_state: str) -> dm_env.TimeStep:
    env.random_state = random_state
    return env.reset()


def _end_with_parent() -> None:
    """Be killed when the process that asked is gone, also while the simulator hangs (Linux)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    _end_with_parent()
    faulthandler.register(signal.SIGUSR1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked sees Ctrl-C, finishes and leaves
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # schedulers send it to every process of a job
    serve(Connection(int(sys.argv[1])))
