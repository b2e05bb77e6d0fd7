"""Evaluation episodes played side by side, with the same results as one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait

from drq_sn.envs.subprocess_env import EnvironmentProcess
from drq_sn.training.loop import Recorder
from drq_sn.types import Agent, Episode

POLLS_PER_LIMIT = 10
MAX_RESTARTS = 3


def evaluate_in_parallel(
    envs: Sequence[EnvironmentProcess],
    agent: Agent,
    random_states: Sequence[str],
    record: Recorder | None = None,
    before_step: Callable[[], None] = lambda: None,
    limit_seconds: float = 60.0,
    on_stall: Callable[[str], None] = lambda reason: None,
) -> list[Episode]:
    """What `evaluate` returns, with each episode in whichever of `envs` is free.

    The agent acts here, on one observation at a time, so that the number of processes changes
    nothing. An episode whose process dies is played again in a new one.

    Args:
        envs: processes of the same environment.
        agent, random_states, record, before_step: see `evaluate`.
        limit_seconds: the longest time that no environment may answer.
        on_stall: gets one line when that time is over.

    Raises:
        RuntimeError: when processes keep dying.
    """
    played: dict[int, Episode] = {}
    remaining = deque(range(len(random_states)))
    playing: dict[EnvironmentProcess, int] = {}
    num_restarts = num_polls = num_filmed = 0

    def begin(env: EnvironmentProcess, episode: int, again: bool = False) -> None:
        nonlocal num_restarts
        playing[env] = episode
        while True:
            try:
                if again:
                    num_restarts += 1
                    if num_restarts > MAX_RESTARTS:
                        raise RuntimeError(f"environment processes died {num_restarts} times in one evaluation")
                    env.restart()
                env.begin(random_states[episode])
                return
            except (EOFError, OSError):
                again = True

    for env in envs[: len(remaining)]:
        begin(env, remaining.popleft())
    while playing:
        before_step()
        ready = set(wait([env.connection for env in playing], limit_seconds / POLLS_PER_LIMIT))
        num_polls = 0 if ready else num_polls + 1  # polls, not a clock: see `Watchdog`
        if num_polls == POLLS_PER_LIMIT:
            on_stall(f"no environment has answered for {limit_seconds:g} s (in an evaluation)")
        for env in [env for env in playing if env.connection in ready]:
            episode = playing[env]
            try:
                time_step = env.receive()
                if time_step.first():
                    played[episode] = Episode(time_step.observation, [])
                else:
                    played[episode].rewards.append(float(time_step.reward))
                if (
                    record is not None and episode == 0 and len(played[0].rewards) == num_filmed
                ):  # not twice what is played again
                    record(env)
                    num_filmed += 1
                if not time_step.last():
                    env.step(agent.act(time_step.observation, step=0, explore=False))
                    continue
            except (EOFError, OSError):
                begin(env, episode, again=True)
                continue
            del playing[env]
            if remaining:
                begin(env, remaining.popleft())
    return [played[number] for number in range(len(random_states))]
