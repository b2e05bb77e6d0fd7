"""A diverged simulation ends its episode, with a warning, and nothing else."""

from __future__ import annotations

import contextlib
import re

import dm_env
import numpy as np
import pytest
from dm_control.rl.control import PhysicsError

from drq_sn import make_env
from drq_sn.envs.divergence import MAX_RESETS, MAX_WARNINGS, DivergenceGuard
from drq_sn.envs.synthetic import PointMass
from drq_sn.types import DivergedStep, SimulationDiverged

DIVERGED = "x: the simulation diverged"


class Failing(PointMass):
    """Fails at frame `at` of every episode in the way that `failure` says."""

    def __init__(self, seed=0, failure=None, at=3):
        super().__init__(seed)
        self.failure, self.at = failure, at

    def step(self, action):
        time_step = super().step(action)
        if self._frame != self.at:
            return time_step
        if isinstance(self.failure, Exception):
            raise self.failure
        return time_step._replace(**self.failure)


FAILURES = [
    (PhysicsError("mjWARN_BADQACC"), "PhysicsError: mjWARN_BADQACC"),
    (FloatingPointError("overflow"), "FloatingPointError: overflow"),
    (SimulationDiverged("the robot left the table"), "the robot left the table"),
    ({"reward": float("nan")}, "reward nan"),
    ({"reward": float("-inf")}, "reward -inf"),
    ({"observation": np.array([0.0, np.inf])}, "observation is not finite"),
    ({"observation": {"speed": np.array([np.nan]), "count": np.array([1])}}, "speed is not finite"),
]


@pytest.mark.parametrize(("failure", "reason"), FAILURES)
def test_the_episode_ends_at_the_last_valid_observation(failure, reason):
    env = DivergenceGuard(Failing(failure=failure), "x")
    env.reset()
    for _ in range(2):
        valid = env.step(np.ones(2))
        assert not isinstance(valid, DivergedStep)
    with pytest.warns(UserWarning, match=re.escape(f"{DIVERGED} at frame 3 of an episode ({reason})")):
        last = env.step(np.ones(2))
    assert isinstance(last, DivergedStep)
    assert (last.step_type, last.reward, last.discount) == (dm_env.StepType.LAST, 0.0, 1.0)
    assert np.array_equal(last.observation, valid.observation)
    assert env.step(np.ones(2)).first()


def play_steps(env, num_steps):
    """Every second call ends an episode of `Failing(at=1)`, and every other one starts one."""
    for _ in range(num_steps):
        env.step(np.ones(2))


def test_a_mistake_in_an_environment_is_not_hidden():
    env = DivergenceGuard(Failing(failure=TypeError("unsupported operand")), "x")
    env.reset()
    with pytest.raises(TypeError, match="unsupported"):
        [env.step(np.ones(2)) for _ in range(3)]


def test_a_reset_that_diverges_is_repeated_and_then_given_up():
    class BadStart(PointMass):
        num_resets, num_bad = 0, 4

        def reset(self):
            self.num_resets += 1
            time_step = super().reset()
            return time_step._replace(observation=np.full(2, np.nan)) if self.num_resets <= self.num_bad else time_step

    env = BadStart(0)
    with pytest.warns(UserWarning, match="at frame 0 of an episode .* trying another reset"):
        assert np.isfinite(DivergenceGuard(env, "x").reset().observation).all()
    assert env.num_resets == 5
    env.num_resets, env.num_bad = 0, MAX_RESETS
    guard = DivergenceGuard(env, "x")
    message = f"{DIVERGED} in 10 resets in a row"
    with pytest.warns(UserWarning, match="another reset"), pytest.raises(SimulationDiverged, match=message):
        guard.reset()


def test_warnings_end_after_some():
    env = DivergenceGuard(Failing(failure={"reward": np.nan}, at=1), "x")
    with pytest.warns(UserWarning, match="reward nan") as caught:
        play_steps(env, 2 * MAX_WARNINGS + 10)
    assert len(caught) == MAX_WARNINGS
    assert "only counted" in str(caught[-1].message)


@pytest.mark.parametrize("task", ["cheetah_run", "reach_duplo"])
def test_an_invalid_state_of_mujoco_ends_the_episode_and_the_next_one_is_sound(task):
    with contextlib.closing(make_env(task, image_size=24, shadows=False, reflections=False)) as env:
        first = env.reset()
        env.physics.data.qvel[0] = np.nan
        action = np.zeros(env.action_spec().shape, np.float32)
        with pytest.warns(UserWarning, match=f"{task}: the simulation diverged at frame 1 .*PhysicsError"):
            last = env.step(action)
        assert isinstance(last, DivergedStep)
        assert np.array_equal(last.observation, first.observation)
        assert env.reset().first()
        assert not isinstance(env.step(action), DivergedStep)
