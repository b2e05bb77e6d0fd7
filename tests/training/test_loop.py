"""The order of operations, by an environment, agent and replay that write down what happens to them."""

from __future__ import annotations

import dm_env
import numpy as np
import pytest
from dm_env import specs

from drq_sn.training.loop import Loop, uniform_action
from drq_sn.types import DivergedStep, Episode, SimulationDiverged
from drq_sn.validation import InvalidInput
from tests.builders import make_replay

EPISODE_STEPS = 4


class Env(dm_env.Environment):
    random_state = "where it began"

    def __init__(self, diary):
        self.diary, self.t = diary, 0

    def reset(self):
        self.t = 0
        return dm_env.restart(np.zeros(1))

    def step(self, action):
        self.t += 1
        self.diary.append("step")
        make = dm_env.truncation if self.t == EPISODE_STEPS else dm_env.transition
        return make(1.0, np.full(1, self.t), discount=1.0)

    def observation_spec(self):
        return specs.Array((1,), float)

    def action_spec(self):
        return specs.BoundedArray((1,), np.float32, -1, 1)


class Agent:
    metric_names = ()

    def __init__(self, diary):
        self.diary = diary

    def act(self, obs, step, explore):
        self.diary.append(f"act{'' if explore else ' mean'}")
        return np.zeros(1, np.float32)

    def update(self, batch, step):
        self.diary.append(f"update at {step}")
        return {}

    def is_finite(self):
        return True

    def sigmas(self):
        return {}


class Replay:
    def __init__(self, diary):
        self.diary, self.stored = diary, []

    num_transitions = 1

    def add(self, time_step, action):
        self.diary.append("store")
        self.stored.append((time_step, action))

    def sample(self):
        return None


class Logger:
    def __init__(self):
        self.episodes, self.evaluations, self.frames, self.diverged = [], [], [], []

    def update(self, metrics):
        pass

    def step(self, frame):
        self.frames.append(frame)

    def episode(self, frame, step, episode_return, num_steps, sigmas, diverged):
        self.episodes.append((frame, step, episode_return, num_steps))
        self.diverged.append(diverged)

    def evaluation(self, frame, step, episodes):
        self.evaluations.append((frame, step))


def make_loop(num_frames=20, random_steps=3, update_every=2, eval_every=8, max_diverged=3):
    return Loop(
        num_train_frames=num_frames,
        action_repeat=2,
        num_random_steps=random_steps,
        update_every_steps=update_every,
        eval_every_frames=eval_every,
        max_diverged_episodes=max_diverged,
        seed=0,
    )


def train(loop=None, before_step=lambda: None, env=None, replay=None, **options):
    loop, diary, logger = loop or make_loop(**options), [], Logger()
    replay = replay or Replay(diary)

    def evaluate(frame):
        diary.append(f"evaluate at {frame}")
        return [Episode(np.zeros(1), [0.0])]

    loop.run(env or Env(diary), Agent(diary), replay, logger, evaluate, before_step)
    return diary, replay, logger


def test_evaluate_act_update_step_store():
    diary, _, _ = train()
    assert diary[:8] == ["store", "evaluate at 0", "step", "store", "step", "store", "step", "store"]  # random phase
    assert diary[8:13] == ["act", "step", "store", "store", "evaluate at 8"]  # step 3 ends the episode
    assert diary[13:17] == ["act", "update at 4", "step", "store"]
    assert [d for d in diary if d.startswith("update")] == ["update at 4", "update at 6", "update at 8"]
    assert diary[-1] == "evaluate at 20"


def test_evaluations_stand_at_multiples_and_at_the_end():
    _, _, logger = train()
    assert logger.evaluations == [(0, 0), (8, 4), (16, 8), (20, 10)]


def test_episodes_and_frames_are_counted():
    _, replay, logger = train()
    assert logger.episodes == [(8, 4, 4.0, 4), (16, 8, 4.0, 4)]
    assert logger.frames[-1] == 20
    assert len(replay.stored) == 10 + 3  # a first frame for each of three episodes
    assert [a is None for _, a in replay.stored[:6]] == [True, False, False, False, False, True]


def test_random_actions_cover_the_range_and_follow_the_seed():
    _, first, _ = train(num_frames=400, random_steps=200)
    _, second, _ = train(num_frames=400, random_steps=200)
    actions = np.array([a for _, a in first.stored if a is not None])
    assert np.array_equal(actions, np.array([a for _, a in second.stored if a is not None]))
    assert actions.min() < -0.9
    assert actions.max() > 0.9


def test_random_numbers_of_discrete_actions_cover_all_of_them():
    random = np.random.default_rng(0)
    actions = [uniform_action(random, specs.DiscreteArray(3)) for _ in range(300)]
    assert {(action.shape, action.dtype) for action in actions} == {((), np.dtype(np.int64))}
    assert np.bincount(actions, minlength=3).min() > 60


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_frames": 21}, "multiple of 2"), ({"eval_every": 7}, "multiple of 2"), ({"update_every": 0}, ">= 1")],
)
def test_wrong_numbers_are_named(options, message):
    with pytest.raises(InvalidInput, match=message):
        train(**options)


@pytest.mark.parametrize(("random_steps", "first"), [(3, 4), (4, 4), (5, 6)])
def test_the_first_update_is_at_the_first_due_step_after_the_random_ones(random_steps, first):
    diary, _, _ = train(random_steps=random_steps)
    assert next(entry for entry in diary if entry.startswith("update")) == f"update at {first}"


def test_a_loop_resumed_within_the_uniform_phase_draws_the_same_actions():
    class Stop(Exception):
        pass

    def stop():
        if loop.step == 13:
            raise Stop

    expected = [action for _, action in train(random_steps=20, num_frames=40)[1].stored if action is not None]
    loop, resumed = make_loop(random_steps=20, num_frames=40), make_loop(random_steps=20, num_frames=40)
    with pytest.raises(Stop):
        train(loop, stop)
    resumed.load_state_dict(loop.state_dict())
    _, replay, logger = train(resumed)
    assert np.array_equal([action for _, action in replay.stored if action is not None], expected[13:])
    assert logger.episodes[0] == (32, 16, 4.0, 4)  # the episode that was interrupted


class DivergingEnv(Env):
    """Diverges at the second step of the episodes whose number is in `diverging`."""

    def __init__(self, diverging):
        super().__init__([])
        self.episode, self.diverging = -1, diverging

    def reset(self):
        self.episode += 1
        return super().reset()

    def step(self, action):
        time_step = super().step(action)
        if self.t == 2 and self.episode in self.diverging:
            return DivergedStep(dm_env.StepType.LAST, 0.0, 1.0, np.zeros(1))
        return time_step


def test_a_diverged_step_ends_the_episode_and_is_not_stored():
    _, replay, logger = train(env=DivergingEnv({1}), num_frames=20)
    assert logger.episodes == [(8, 4, 4.0, 4), (12, 6, 1.0, 2), (20, 10, 4.0, 4)]
    assert logger.diverged == [False, True, False]
    assert len(replay.stored) == (4 + 1) + (1 + 1) + (4 + 1) + 1  # with first steps; the last one of a new episode
    assert not any(isinstance(time_step, DivergedStep) for time_step, _ in replay.stored)


def test_only_diverged_episodes_in_a_row_end_training():
    train(env=DivergingEnv({0, 1, 3, 4}), num_frames=40)
    loop = make_loop(num_frames=40)
    with pytest.raises(SimulationDiverged, match=r"diverged in 3 episodes in a row \(max_diverged_episodes\)"):
        train(loop, env=DivergingEnv({1, 2, 3}))
    assert loop.step == 4 + 3 * 2


def test_an_update_waits_for_a_transition_but_not_for_one_that_cannot_come():
    class PixelEnv(DivergingEnv):
        def reset(self):
            return super().reset()._replace(observation=np.zeros((9, 2, 2), np.uint8))

        def step(self, action):
            return super().step(action)._replace(observation=np.zeros((9, 2, 2), np.uint8))

        def action_spec(self):
            return specs.BoundedArray((2,), np.float32, -1, 1)

    diary, _, _ = train(env=PixelEnv({0, 1}), replay=make_replay(n_step=4), num_frames=40)
    assert next(entry for entry in diary if entry.startswith("update")) == "update at 8"  # due from step 4 on
    with pytest.raises(InvalidInput, match="n_step must be at most 4, the number of steps"):
        train(env=PixelEnv({0, 1}), replay=make_replay(n_step=5), num_frames=40)
    train(env=PixelEnv({0, 1}), replay=make_replay(n_step=5, keep_truncated=True), num_frames=40)
