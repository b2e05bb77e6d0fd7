"""An environment in a process of its own, so that several render at once."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import dm_env
import numpy as np

CLOSE_SECONDS = 5.0


class EnvironmentProcess:
    """Asks an environment elsewhere: `begin` or `step` first, then `receive`; many can be at work meanwhile.

    The process is a plain interpreter that imports environments and nothing else. It ends with this
    one, however that ends.

    Args:
        make_env: builds a `PixelStack`; a picklable callable.
    """

    def __init__(self, make_env: Callable[[], Any]) -> None:
        self._make_env = make_env
        self._start()

    def _start(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self.connection.send_bytes(pickle.dumps(self._make_env))

    def begin(self, random_state: str) -> None:
        """Ask for the episode that follows from `random_state` (see `PixelStack`)."""
        self.connection.send(("begin", random_state))

    def step(self, action: np.ndarray) -> None:
        """Ask for a step."""
        self.connection.send(("step", action))

    def receive(self) -> dm_env.TimeStep:
        """The answer to `begin` or `step`; waits for it.

        Raises:
            EOFError, OSError: if the process is gone; `restart` makes a new one.
        """
        return self.connection.recv()

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the present state, (height, width, 3) uint8; waits for it."""
        self.connection.send(("render", (height, width)))
        return self.connection.recv()

    def restart(self) -> None:
        """Replace a process that is gone."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:  # it hangs in the simulator
            self._process.kill()
            self._process.wait()


def serve(connection: Connection) -> None:
    """Answer requests until the other end is gone."""
    env = pickle.loads(connection.recv_bytes())()
    answers = {
        "begin": lambda state: _begun(env, state),
        "step": env.step,
        "render": lambda size: env.render(*size),
    }
    try:
        while True:
            request, argument = connection.recv()
            connection.send(answers[request](argument))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        env.close()


def _begun(env: Any, random_state: str) -> dm_env.TimeStep:
    env.random_state = random_state
    return env.reset()


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked sees Ctrl-C, finishes and leaves
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # schedulers send it to every process of a job
    serve(Connection(int(sys.argv[1])))
