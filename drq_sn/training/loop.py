"""Training and evaluation, in terms of the protocols alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dm_env
import numpy as np
import torch

from drq_sn import validation
from drq_sn.types import Agent, Environment, Episode, Logger, Replay

Recorder = Callable[[Any], None]
"""Called with the environment at every step of the first evaluation episode."""


class LearningCrashed(Exception):
    """A loss or a weight is no longer a number.

    Attributes:
        frame: simulator frame at which it was seen.
    """

    def __init__(self, frame: int) -> None:
        super().__init__(f"training diverged: non-finite loss or weight, seen at frame {frame}")
        self.frame = frame


def evaluate(
    env: Environment,
    agent: Agent,
    random_states: Sequence[str],
    record: Recorder | None = None,
    before_step: Callable[[], None] = lambda: None,
) -> list[Episode]:
    """Play episodes with the deterministic policy; neither agent nor random state changes.

    Args:
        env: an environment of its own, not the training one.
        agent: who acts.
        random_states: what each episode follows from; see `Environment`.
        record: called after the reset and after each step of the first episode.
        before_step: called before every step; may raise to break off.

    Returns:
        Each episode, in order.
    """
    episodes = []
    for number, random_state in enumerate(random_states):
        env.random_state = random_state
        time_step = env.reset()
        first_obs, rewards = np.array(time_step.observation), []
        while True:
            if record is not None and number == 0:
                record(env)
            if time_step.last():
                break
            before_step()
            time_step = env.step(agent.act(time_step.observation, step=0, explore=False))
            rewards.append(float(time_step.reward))
        episodes.append(Episode(first_obs, rewards))
    return episodes


class Loop:
    """The interaction of agent and environment: evaluate if due, act, update if due, step, store.

    Its state is that of the step it stands before, so that it can be saved at any step and continued.

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
        self.action_repeat = validation.integer("action_repeat", action_repeat)
        self.num_steps = (
            validation.multiple("num_train_frames", num_train_frames, action_repeat, minimum=1) // action_repeat
        )
        self.eval_every_steps = (
            validation.multiple("eval_every_frames", eval_every_frames, action_repeat, minimum=1) // action_repeat
        )
        self.num_random_steps = validation.integer("num_random_steps", num_random_steps)
        self.update_every_steps = validation.integer("update_every_steps", update_every_steps)
        self._random = np.random.default_rng(seed)
        self.step = 0
        self._episode_start, self._episode_return = 0, 0.0
        self._episode_random_state = ""  # empty until an episode has begun
        self._episode_actions: list[np.ndarray] = []

    def run(
        self,
        env: Environment,
        agent: Agent,
        replay: Replay,
        logger: Logger,
        run_evaluation: Callable[[int], list[float]],
        before_step: Callable[[int], None] = lambda frame: None,
    ) -> None:
        """Train from the present step to the end.

        Args:
            env: training environment, acted on in [-1, 1].
            agent: who acts and learns.
            replay: what stores and draws transitions.
            logger: what is told of updates, episodes and evaluations.
            run_evaluation: frame -> episode returns; must leave every random state as it was.
            before_step: called with the frame before anything of a step is done: `state_dict` taken
                then, or when it or an evaluation raises, continues exactly.

        Raises:
            LearningCrashed: when a loss or weight is no longer a number; seen at an action, at an
                episode's end and before an evaluation.
        """
        time_step = self._replay_episode(env) if self._episode_random_state else self._start_episode(env, replay)
        for step in range(self.step, self.num_steps):
            self.step, frame = step, step * self.action_repeat
            before_step(frame)
            if step % self.eval_every_steps == 0:
                self._evaluate(agent, logger, run_evaluation)
            action = self._act(agent, time_step, step, env.action_spec().shape)
            if step >= self.num_random_steps and step % self.update_every_steps == 0:
                logger.update(agent.update(replay.sample(), step))
            time_step = env.step(action)
            replay.add(time_step, action)
            self._episode_actions.append(action)
            self._episode_return += float(time_step.reward)
            self.step, frame = step + 1, frame + self.action_repeat
            logger.step(frame)
            if time_step.last():
                self._check_learning(agent)
                num_steps = self.step - self._episode_start
                logger.episode(frame, self.step, self._episode_return, num_steps, agent.sigmas())
                time_step = self._start_episode(env, replay)
        before_step(self.step * self.action_repeat)
        self._evaluate(agent, logger, run_evaluation)

    def state_dict(self) -> dict[str, Any]:
        """Where training stands: step, random state, and how the present episode came about."""
        return {
            "step": self.step,
            "random": json.dumps(self._random.bit_generator.state),
            "episode_start": self._episode_start,
            "episode_return": self._episode_return,
            "episode_random_state": self._episode_random_state,
            "episode_actions": torch.from_numpy(np.array(self._episode_actions, np.float32)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.step = state["step"]
        self._random.bit_generator.state = json.loads(state["random"])
        self._episode_start, self._episode_return = state["episode_start"], state["episode_return"]
        self._episode_random_state = state["episode_random_state"]
        self._episode_actions = list(state["episode_actions"].numpy())

    def _evaluate(self, agent: Agent, logger: Logger, run_evaluation: Callable[[int], list[float]]) -> None:
        self._check_learning(agent)
        frame = self.step * self.action_repeat
        logger.evaluation(frame, self.step, run_evaluation(frame))

    def _check_learning(self, agent: Agent) -> None:
        if not agent.is_finite():
            raise LearningCrashed(self.step * self.action_repeat)

    def _start_episode(self, env: Environment, replay: Replay) -> dm_env.TimeStep:
        self._episode_start, self._episode_return, self._episode_actions = self.step, 0.0, []
        self._episode_random_state = env.random_state
        time_step = env.reset()
        replay.add(time_step, None)
        return time_step

    def _replay_episode(self, env: Environment) -> dm_env.TimeStep:
        """Bring `env` to where it was within the present episode, by the same actions from the same start."""
        env.random_state = self._episode_random_state
        time_step = env.reset()
        for action in self._episode_actions:
            time_step = env.step(action)
        return time_step

    def _act(self, agent: Agent, time_step: dm_env.TimeStep, step: int, shape: Iterable[int]) -> np.ndarray:
        if step < self.num_random_steps:
            return self._random.uniform(-1.0, 1.0, tuple(shape)).astype(np.float32)
        action = agent.act(time_step.observation, step, explore=True)
        if not np.isfinite(action).all():  # a simulator would stop with an error of its own
            raise LearningCrashed(step * self.action_repeat)
        return action
