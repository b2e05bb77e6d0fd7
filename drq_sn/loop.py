"""Training and evaluation, in terms of the protocols alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import dm_env
import numpy as np

from drq_sn import checks
from drq_sn.types import Agent, Logger, Replay

Recorder = Callable[[dm_env.Environment], None]
"""Called at every step of the first evaluation episode."""


def evaluate(env: dm_env.Environment, agent: Agent, num_episodes: int, record: Recorder | None = None) -> list[float]:
    """Play episodes with the deterministic policy; neither agent nor random state changes.

    Args:
        env: an environment of its own, not the training one.
        agent: who acts.
        num_episodes: how many episodes.
        record: called after the reset and after each step of the first episode.

    Returns:
        The undiscounted return of each episode.
    """
    returns = []
    for episode in range(num_episodes):
        time_step, episode_return = env.reset(), 0.0
        while True:
            if record is not None and episode == 0:
                record(env)
            if time_step.last():
                break
            time_step = env.step(agent.act(time_step.observation, step=0, explore=False))
            episode_return += time_step.reward
        returns.append(episode_return)
    return returns


class Loop:
    """The interaction of agent and environment: evaluate if due, act, update if due, step, store.

    Args:
        num_train_frames: simulator frames to train for.
        action_repeat: frames per step.
        num_random_steps: steps of uniform actions at the start, without updates.
        update_every_steps: period of updates, in steps.
        eval_every_frames: period of evaluations, from frame 0 on; one more stands at the end.
        seed: seed of the uniform actions.
    """

    def __init__(
        self,
        *,
        num_train_frames: int,
        action_repeat: int,
        num_random_steps: int,
        update_every_steps: int,
        eval_every_frames: int,
        seed: int,
    ) -> None:
        self.num_steps = checks.multiple("num_train_frames", num_train_frames, action_repeat, minimum=1) // action_repeat
        self.eval_every_steps = checks.multiple("eval_every_frames", eval_every_frames, action_repeat, minimum=1) // action_repeat
        self.action_repeat = action_repeat
        self.num_random_steps = checks.integer("num_random_steps", num_random_steps)
        self.update_every_steps = checks.integer("update_every_steps", update_every_steps)
        self._random = np.random.default_rng(seed)

    def run(
        self,
        env: dm_env.Environment,
        agent: Agent,
        replay: Replay,
        logger: Logger,
        run_evaluation: Callable[[int], list[float]],
    ) -> None:
        """Train from step 0 to the end.

        Args:
            env: training environment, acted on in [-1, 1].
            agent: who acts and learns.
            replay: what stores and draws transitions.
            logger: what is told of updates, episodes and evaluations.
            run_evaluation: frame -> episode returns; must leave every random state as it was.
        """
        time_step = self._start_episode(env, replay)
        episode_return, episode_start = 0.0, 0
        for step in range(self.num_steps):
            frame = step * self.action_repeat
            if step % self.eval_every_steps == 0:
                logger.evaluation(frame, step, run_evaluation(frame))
            action = self._act(agent, time_step, step, env.action_spec().shape)
            if step >= self.num_random_steps and step % self.update_every_steps == 0:
                logger.update(agent.update(replay.sample(), step))
            time_step = env.step(action)
            replay.add(time_step, action)
            episode_return += time_step.reward
            logger.step(frame + self.action_repeat)
            if time_step.last():
                logger.episode(frame + self.action_repeat, step + 1, episode_return, step + 1 - episode_start, agent.sigmas())
                time_step = self._start_episode(env, replay)
                episode_return, episode_start = 0.0, step + 1
        last_frame = self.num_steps * self.action_repeat
        logger.evaluation(last_frame, self.num_steps, run_evaluation(last_frame))

    def _start_episode(self, env: dm_env.Environment, replay: Replay) -> dm_env.TimeStep:
        time_step = env.reset()
        replay.add(time_step, None)
        return time_step

    def _act(self, agent: Agent, time_step: dm_env.TimeStep, step: int, shape: Iterable[int]) -> np.ndarray:
        if step < self.num_random_steps:
            return self._random.uniform(-1.0, 1.0, tuple(shape)).astype(np.float32)
        return agent.act(time_step.observation, step, explore=True)
