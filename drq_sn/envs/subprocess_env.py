"""An environment in its own process, so that several can render at once."""

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

from drq_sn.output import tolerate_broken_output
from drq_sn.types import SimulationDiverged
from drq_sn.validation import InvalidInput

START_SECONDS, CLOSE_SECONDS = 300.0, 5.0
MAX_RESTARTS = 3  # per episode
PR_SET_PDEATHSIG = 1  # of Linux's prctl


class EnvironmentProcess:
    """Client of an environment in a subprocess: call `begin` or `step`, then `receive`.

    Requests return at once, so that many environments can work in parallel. The subprocess is a plain
    interpreter that imports only environments, and it ends with this process, however that ends. If it
    dies during an episode, a new one is started and brought to the same state by the same actions.

    Args:
        make_env: builds a `PixelStack`; a picklable callable.
        limit_seconds: longest time that drawing a frame, or a step after a restart, may take.
    """

    def __init__(self, make_env: Callable[[], Any], limit_seconds: float) -> None:
        self._make_env, self._limit_seconds = make_env, limit_seconds
        self._random_state, self._actions, self._num_restarts = "", list[np.ndarray](), 0
        self._received: tuple[int, Any] = (-1, None)  # number of actions before the newest observation, and that
        self._start()

    def _start(self) -> None:
        self.connection, child_end = multiprocessing.Pipe()
        with child_end:
            command = [sys.executable, "-m", __name__, str(child_end.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[child_end.fileno()], stdin=subprocess.DEVNULL)
        self.connection.send(sys.path)  # may have directories of the user's modules
        self.connection.send_bytes(pickle.dumps(self._make_env))
        self._is_ready = False

    @property
    def pid(self) -> int:
        """Process id of the current subprocess."""
        return self._process.pid

    def begin(self, random_state: str) -> None:
        """Request the episode drawn from `random_state` (see `PixelStack`); the first time, wait for the start."""
        self._random_state, self._actions, self._num_restarts = random_state, [], 0
        self._received = (-1, None)
        try:
            self._await_start()
            self.connection.send(("begin", random_state))
        except TimeoutError:
            self._process.kill()  # its late answer would be taken for a time step; `receive` starts another
        except (EOFError, OSError):  # `receive` restarts a dead process
            pass

    def step(self, action: np.ndarray) -> None:
        """Request a step."""
        self._actions.append(action)
        with contextlib.suppress(OSError):  # `receive` restarts a dead process
            self.connection.send(("step", action))

    def receive(self) -> dm_env.TimeStep:
        """Wait for the result of `begin` or `step`.

        Raises:
            RuntimeError: if the process keeps dying, or its environment does not repeat an episode.
            InvalidInput: if the environment does something invalid.
            SimulationDiverged: if no reset succeeds.
        """
        try:
            time_step: dm_env.TimeStep = _result(self.connection.recv())
        except (EOFError, OSError):
            time_step = self._restart_episode()
        self._received = (len(self._actions), time_step.observation)
        return time_step

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the current state, (height, width, 3) uint8; a process that does not answer is replaced.

        Raises:
            RuntimeError: if the process keeps dying.
        """
        while True:
            try:
                return np.asarray(self._ask("render", (height, width)))
            except (EOFError, OSError):
                self._restart_episode()

    def _restart_episode(self) -> dm_env.TimeStep:
        """Start a new process and repeat the episode up to now."""
        while self._num_restarts < MAX_RESTARTS:
            self._num_restarts += 1
            self._process.kill()
            self.close()
            self._start()
            with contextlib.suppress(EOFError, OSError):
                self._await_start()
                return self._repeat_episode()
        raise RuntimeError(f"an environment process died {MAX_RESTARTS + 1} times in one episode")

    def _repeat_episode(self) -> dm_env.TimeStep:
        requests = [("begin", self._random_state), *(("step", action) for action in self._actions)]
        for number, request in enumerate(requests):
            time_step = self._ask(*request)
            if number == self._received[0] and not np.array_equal(time_step.observation, self._received[1]):
                raise RuntimeError("an environment process died, and its environment does not repeat the episode")
        return time_step

    def _await_start(self) -> None:
        if not self._is_ready:
            self._receive_within(START_SECONDS)
            self._is_ready = True

    def _ask(self, request: str, argument: Any) -> Any:
        self.connection.send((request, argument))
        return self._receive_within(self._limit_seconds)

    def _receive_within(self, seconds: float) -> Any:
        if not self.connection.poll(seconds):
            raise TimeoutError(f"the environment has not answered for {seconds:g} s")
        return _result(self.connection.recv())

    def print_stack(self) -> None:
        """Let the process print its stack to stderr."""
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGUSR1)

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:  # stuck in the simulator
            self._process.kill()
            self._process.wait()


def _result(answer: Any) -> Any:
    if isinstance(answer, (SimulationDiverged, InvalidInput)):
        raise answer
    return answer


def serve(connection: Connection) -> None:
    """Answer requests until the other end is closed."""
    try:
        sys.path += [path for path in connection.recv() if path not in sys.path]
        env = pickle.loads(connection.recv_bytes())()
        handlers = {
            "begin": lambda random_state: _begin(env, random_state),
            "step": env.step,
            "render": lambda size: env.render(*size),
        }
        connection.send("ready")
        while True:
            request, argument = connection.recv()
            try:
                result = handlers[request](argument)
            except (SimulationDiverged, InvalidInput) as error:  # they would come back in a new process too
                result = error
            connection.send(result)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _begin(env: Any, random_state: str) -> dm_env.TimeStep:
    env.random_state = random_state
    return env.reset()


if __name__ == "__main__":
    with contextlib.suppress(AttributeError, OSError, TypeError):  # elsewhere than on Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # when the parent ends, also in the simulator
    tolerate_broken_output()
    faulthandler.register(signal.SIGUSR1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and closes the connection
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # schedulers send it to every process of a job
    serve(Connection(int(sys.argv[1])))
