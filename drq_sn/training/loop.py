"""The training loop, in terms of the protocols of `drq_sn.types`."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import dm_env
import numpy as np
import torch
from dm_env import specs

from drq_sn import validation
from drq_sn.types import Agent, DivergedStep, Environment, Episode, Recorder, Replay, SimulationDiverged


class TrainingDiverged(Exception):
    """A loss or a weight is not finite.

    Attributes:
        frame: simulator frame at which it was detected.
    """

    def __init__(self, frame: int) -> None:
        super().__init__(f"training diverged: non-finite loss or weight, detected at frame {frame}")
        self.frame = frame


class Loop:
    """The interaction of agent and environment: evaluate if due, act, update if due, step, store.

    Its state can be saved before any step, and training resumed from there.

    Args:
        num_train_frames: simulator frames to train for.
        action_repeat: frames per step.
        num_random_steps: steps of uniform actions at the start, without updates.
        update_every_steps: period of updates, in steps.
        eval_every_frames: period of evaluations, from frame 0 on; there is one more at the end.
        max_diverged_episodes: training episodes in a row whose simulation diverged, after which training ends.
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
        max_diverged_episodes: int,
        seed: int,
    ) -> None:
        self.action_repeat = validation.integer("action_repeat", action_repeat)
        self.num_steps = (
            validation.multiple("num_train_frames", num_train_frames, action_repeat, "the action repeat", minimum=1)
            // action_repeat
        )
        self.eval_every_steps = (
            validation.multiple("eval_every_frames", eval_every_frames, action_repeat, "the action repeat", minimum=1)
            // action_repeat
        )
        self.num_random_steps = validation.integer("num_random_steps", num_random_steps)
        self.update_every_steps = validation.integer("update_every_steps", update_every_steps)
        self._max_diverged_episodes = validation.integer("max_diverged_episodes", max_diverged_episodes)
        self._random = np.random.default_rng(seed)
        self.step = 0
        self._num_diverged_in_a_row = 0
        self._longest_episode, self._has_updated = 0, False
        self._episode_start, self._episode_return = 0, 0.0
        self._episode_random_state: str | None = None  # None before the first episode
        self._episode_actions: list[np.ndarray] = []
        self._observation: Any = None  # the newest one
        self._observation_digest = ""  # of the newest one when the state was saved

    def run(
        self,
        env: Environment,
        agent: Agent,
        replay: Replay,
        logger: Recorder,
        run_evaluation: Callable[[int], Sequence[Episode]],
        before_step: Callable[[], None],
    ) -> None:
        """Train from the current step to the end.

        Args:
            env: training environment.
            agent: acts and learns.
            replay: stores and samples transitions.
            logger: records updates, episodes and evaluations.
            run_evaluation: frame -> episodes; must restore every random state.
            before_step: called at the start of every step, and at the end. Training can be resumed exactly
                from a `state_dict` taken there, also when it or an evaluation raised.

        Raises:
            TrainingDiverged: if a loss or weight is not finite; checked at actions, at the end of
                episodes and before evaluations.
            SimulationDiverged: after `max_diverged_episodes` in a row.
            InvalidInput: if an update is due after the first episode and no episode was long enough for a transition.
        """
        is_resumed = self._episode_random_state is not None
        time_step = self._resume_episode(env, replay) if is_resumed else self._start_episode(env, replay)
        for step in range(self.step, self.num_steps):
            self.step, frame = step, step * self.action_repeat
            before_step()
            if step % self.eval_every_steps == 0:
                self._evaluate(agent, logger, run_evaluation)
            action = self._act(agent, time_step, step, env.action_spec())
            if step >= self.num_random_steps and step % self.update_every_steps == 0:
                self._update(agent, replay, logger)
            time_step = env.step(action)
            diverged = isinstance(time_step, DivergedStep)
            if not diverged:
                replay.add(time_step, action)
                self._episode_return += float(time_step.reward)
            self._observation = time_step.observation
            self._episode_actions.append(action)
            self.step, frame = step + 1, frame + self.action_repeat
            logger.step(frame)
            if time_step.last():
                self._require_finite(agent)
                num_steps = self.step - self._episode_start
                logger.episode(frame, self.step, self._episode_return, num_steps, agent.sigmas(), diverged)
                self._count_ending(diverged)
                time_step = self._start_episode(env, replay)
        before_step()
        self._evaluate(agent, logger, run_evaluation)

    @property
    def updates(self) -> bool:
        """Whether any update is due in the run."""
        first = -(-self.num_random_steps // self.update_every_steps) * self.update_every_steps
        return first < self.num_steps

    def state_dict(self) -> dict[str, Any]:
        """Step, random state, and what is needed to repeat the current episode up to this step."""
        return {
            "step": self.step,
            "random": json.dumps(self._random.bit_generator.state),
            "num_diverged_in_a_row": self._num_diverged_in_a_row,
            "longest_episode": self._longest_episode,
            "has_updated": self._has_updated,
            "episode_start": self._episode_start,
            "episode_return": self._episode_return,
            "episode_random_state": self._episode_random_state,
            "observation_digest": _digest(self._observation),
            "episode_actions": torch.from_numpy(np.array(self._episode_actions)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.step = state["step"]
        self._random.bit_generator.state = json.loads(state["random"])
        self._num_diverged_in_a_row = state["num_diverged_in_a_row"]
        self._longest_episode, self._has_updated = state["longest_episode"], state["has_updated"]
        self._episode_start, self._episode_return = state["episode_start"], state["episode_return"]
        self._episode_random_state = state["episode_random_state"]
        self._episode_actions = list(state["episode_actions"].numpy())
        self._observation_digest = state["observation_digest"]

    def _update(self, agent: Agent, replay: Replay, logger: Recorder) -> None:
        """Update `agent`, unless the replay holds no transition: all episodes in it were cut before `n_step`."""
        if replay.num_transitions:
            logger.update(agent.update(replay.sample(), self.step))
            self._has_updated = True
        elif self._longest_episode and not self._has_updated:
            raise validation.InvalidInput(
                f"n_step must be at most {self._longest_episode}, the number of steps of the longest episode so far; "
                "replay.keep_truncated=true also learns from shorter transitions"
            )

    def _count_ending(self, diverged: bool) -> None:
        self._num_diverged_in_a_row = self._num_diverged_in_a_row + 1 if diverged else 0
        if not diverged:
            self._longest_episode = max(self._longest_episode, self.step - self._episode_start)
        if self._num_diverged_in_a_row >= self._max_diverged_episodes:
            raise SimulationDiverged(
                f"the simulation diverged in {self._num_diverged_in_a_row} episodes in a row (max_diverged_episodes)"
            )

    def _evaluate(self, agent: Agent, logger: Recorder, run_evaluation: Callable[[int], Sequence[Episode]]) -> None:
        self._require_finite(agent)
        frame = self.step * self.action_repeat
        logger.evaluation(frame, self.step, run_evaluation(frame))

    def _require_finite(self, agent: Agent) -> None:
        if not agent.is_finite():
            raise TrainingDiverged(self.step * self.action_repeat)

    def _start_episode(self, env: Environment, replay: Replay) -> dm_env.TimeStep:
        self._episode_start, self._episode_return, self._episode_actions = self.step, 0.0, []
        self._episode_random_state = env.random_state
        time_step = env.reset()
        self._observation = time_step.observation
        replay.add(time_step, None)
        return time_step

    def _resume_episode(self, env: Environment, replay: Replay) -> dm_env.TimeStep:
        """Repeat the current episode by the same actions from the same start, or start a new one if that fails."""
        if self._episode_random_state:
            env.random_state = self._episode_random_state
            time_step, episode_return = env.reset(), 0.0
            for action in self._episode_actions:
                time_step = env.step(action)
                episode_return += float(time_step.reward or 0.0)
            self._observation = time_step.observation
            is_same = (self._observation_digest, self._episode_return) == (_digest(self._observation), episode_return)
            if is_same:
                return time_step
        warnings.warn(
            "the environment does not repeat the interrupted episode; training continues with a new one", stacklevel=2
        )
        return self._start_episode(env, replay)

    def _act(self, agent: Agent, time_step: dm_env.TimeStep, step: int, spec: specs.BoundedArray) -> np.ndarray:
        if step < self.num_random_steps:
            return uniform_action(self._random, spec)
        action = agent.act(time_step.observation, step, explore=True)
        if not np.isfinite(action).all():  # the simulator would fail with an error of its own
            raise TrainingDiverged(step * self.action_repeat)
        return action


def uniform_action(random: np.random.Generator, spec: specs.BoundedArray) -> np.ndarray:
    """A uniform action: in [-1, 1], float32, or the number of one, 0-d int64."""
    if isinstance(spec, specs.DiscreteArray):
        return np.array(random.integers(spec.num_values))
    return np.asarray(random.uniform(-1.0, 1.0, spec.shape), np.float32)


def _digest(observation: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(observation).tobytes()).hexdigest()
