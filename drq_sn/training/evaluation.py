"""Evaluation episodes, in this process or in several; the results do not depend on the number of workers."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from multiprocessing.connection import wait
from typing import Any, TypeAlias

import dm_env
import numpy as np
import torch

from drq_sn.envs.subprocess_env import EnvironmentProcess
from drq_sn.envs.watchdog import POLLS_PER_LIMIT, Watchdog
from drq_sn.types import Agent, DivergedStep, Episode

STACK_SECONDS = 0.2  # time for a stalled process to print its stack

FrameCallback = Callable[[Any], None]
"""Called with an object that has `render(height, width)` at every step of the first evaluation episode."""


class LocalWorker:
    """Plays episodes of a `PixelStack` in this process, as `EnvironmentProcess` does in its own."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def begin(self, random_state: str) -> None:
        """Start the episode drawn from `random_state`."""
        self._env.random_state = random_state
        self._time_step = self._env.reset()

    def step(self, action: np.ndarray) -> None:
        """Act in [-1, 1] for one step."""
        self._time_step = self._env.step(action)

    def receive(self) -> dm_env.TimeStep:
        """Result of the last `begin` or `step`."""
        return self._time_step

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the current state, (height, width, 3) uint8."""
        return np.asarray(self._env.render(height, width))

    def close(self) -> None:
        """Release the environment."""
        self._env.close()


Worker: TypeAlias = "LocalWorker | EnvironmentProcess"


class EnvironmentPool:
    """Workers that are kept from one evaluation to the next.

    Args:
        make_env: builds a `PixelStack`; must be picklable if there are several workers.
        num_workers: episodes played at once, each in its own process; 1 plays them in this process.
        limit_seconds: longest time without an answer from any environment.
        on_stall: called with a one-line reason when the limit is exceeded.
    """

    def __init__(
        self, make_env: Callable[[], Any], num_workers: int, limit_seconds: float, on_stall: Callable[[str], None]
    ) -> None:
        self._limit_seconds, self._on_stall, self._num_polls = limit_seconds, on_stall, 0
        self.workers: Sequence[Worker]
        if num_workers == 1:
            self.workers = [LocalWorker(Watchdog(make_env(), limit_seconds, on_stall))]
        else:
            self.workers = [EnvironmentProcess(make_env, limit_seconds) for _ in range(num_workers)]
        self._processes = [worker for worker in self.workers if isinstance(worker, EnvironmentProcess)]

    def wait(self, workers: Collection[Worker]) -> list[Worker]:
        """Those of `workers` whose result is ready; empty if there is none within a tenth of the limit."""
        connections = [process.connection for process in self._processes if process in workers]
        if not connections:
            return list(workers)
        ready = wait(connections, self._limit_seconds / POLLS_PER_LIMIT)
        self._num_polls = 0 if ready else self._num_polls + 1  # polls instead of a clock: see `Watchdog`
        if self._num_polls == POLLS_PER_LIMIT:
            for process in self._processes:
                process.print_stack()
                time.sleep(STACK_SECONDS)
            self._on_stall(f"no environment has answered for {self._limit_seconds:g} s (in an evaluation)")
        return [process for process in self._processes if process in workers and process.connection in ready]

    def close(self) -> None:
        """Close all workers; their processes shut down in parallel."""
        for process in self._processes:
            process.connection.close()
        for worker in self.workers:
            worker.close()


def evaluate(
    pool: EnvironmentPool,
    agent: Agent,
    random_states: Sequence[str],
    record: FrameCallback | None = None,
    before_step: Callable[[], None] = lambda: None,
) -> list[Episode]:
    """Play episodes with the deterministic policy; the agent acts on one observation at a time, in this process.

    What a policy still draws, such as the rare uniform actions of DQN, follows from `random_states`, too; torch's
    generator on the host is restored.

    Args:
        pool: environments to play in.
        agent: the policy; it does not change.
        random_states: what each episode is drawn from; see `Environment`.
        record: called after the reset and after each step of the first episode.
        before_step: called before every round of steps; may raise to stop the evaluation.

    Returns:
        The episodes, in the order of `random_states`.

    Raises:
        FloatingPointError: if an action is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(zlib.crc32("".join(random_states).encode()))
        episodes: dict[int, Episode] = {}
        waiting = deque(enumerate(random_states))
        playing: dict[Worker, int] = {}
        while waiting or playing:
            for worker in pool.workers:
                if waiting and worker not in playing:
                    playing[worker], random_state = waiting.popleft()
                    worker.begin(random_state)
            before_step()
            for worker in pool.wait(playing):
                number, time_step = playing[worker], worker.receive()
                if time_step.first():
                    episodes[number] = Episode(np.array(time_step.observation), [])
                elif isinstance(time_step, DivergedStep):
                    episodes[number] = episodes[number]._replace(diverged=True)
                else:
                    episodes[number].rewards.append(float(time_step.reward))
                if record is not None and number == 0 and not isinstance(time_step, DivergedStep):
                    record(worker)
                if time_step.last():
                    del playing[worker]
                else:
                    action = agent.act(time_step.observation, step=0, explore=False)
                    if not np.isfinite(action).all():
                        raise FloatingPointError("the agent's action is not finite")
                    worker.step(action)
        return [episodes[number] for number in range(len(random_states))]
