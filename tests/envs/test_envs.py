"""Every environment keeps dm_env's contract; dm_control's really render."""

from __future__ import annotations

import contextlib
import re
import unittest

import dm_env
import numpy as np
import pytest
from dm_env import specs, test_utils

from drq_sn import make_env
from drq_sn.cli.doctor import MATCHING_PAIRS
from drq_sn.envs import gl
from drq_sn.envs.suite import task_names
from drq_sn.envs.wrappers import ActionRepeat
from drq_sn.runs import provenance
from drq_sn.validation import InvalidInput

DOMAINS = {  # tasks of the specification; those of one domain differ in rewards alone
    "acrobot": ["swingup"],
    "ball_in_cup": ["catch"],
    "cartpole": ["balance", "balance_sparse", "swingup", "swingup_sparse"],
    "cheetah": ["run"],
    "cup": ["catch"],
    "finger": ["spin", "turn_easy", "turn_hard"],
    "hopper": ["stand", "hop"],
    "humanoid": ["stand", "walk", "run"],
    "pendulum": ["swingup"],
    "quadruped": ["run", "walk"],
    "reach": ["duplo"],
    "reacher": ["easy", "hard"],
    "walker": ["stand", "walk", "run"],
}


def spec_tasks():
    """Every task of the specification; in the default suite one per domain."""
    for domain, tasks in DOMAINS.items():
        for task in tasks:
            yield pytest.param(f"{domain}_{task}", marks=[] if task == tasks[0] else pytest.mark.slow)


class TestSynthetic(test_utils.EnvironmentTestMixin, unittest.TestCase):
    """dm_env's own conformance test."""

    def make_object_under_test(self):
        return make_env("synthetic_point", image_size=24)


class TestCartpole(test_utils.EnvironmentTestMixin, unittest.TestCase):
    """The same for a rendered task."""

    def make_object_under_test(self):
        return make_env("cartpole_balance", image_size=24)

    def make_action_sequence(self):
        return [np.zeros(1, np.float32)] * 20


@pytest.mark.parametrize("task", list(spec_tasks()))
def test_every_task_of_the_specification_renders(task):
    with contextlib.closing(make_env(task, seed=1)) as env:
        spec, action_spec = env.observation_spec(), env.action_spec()
        assert (spec.shape, spec.dtype) == ((9, 84, 84), np.uint8)
        assert np.all(action_spec.minimum == -1)
        assert np.all(action_spec.maximum == 1)
        first = env.reset()
        spec.validate(first.observation)
        frames = first.observation.reshape(3, 3, 84, 84)
        assert np.array_equal(frames[0], frames[1])
        assert np.array_equal(frames[1], frames[2])
        assert frames[2].std() > 5  # something is to be seen
        second = env.step(np.ones(action_spec.shape, np.float32)).observation.reshape(3, 3, 84, 84)
        assert np.array_equal(second[0], frames[2])
        assert np.array_equal(second[1], frames[2])


def test_an_episode_is_1000_frames_and_its_end_is_no_termination():
    with contextlib.closing(make_env("cartpole_balance", image_size=24, shadows=False, reflections=False)) as env:
        env.reset()
        steps = [env.step(np.zeros(1, np.float32)) for _ in range(500)]
        assert not any(step.last() for step in steps[:-1])
        assert steps[-1].last()
        assert steps[-1].discount == 1.0
        assert all(0 <= step.reward <= 2 for step in steps)
        assert env.physics.time() == pytest.approx(1000 * 0.01)


def test_quadruped_is_seen_through_its_own_camera():
    with contextlib.closing(make_env("quadruped_walk")) as env:
        frame = env.reset().observation[-3:].transpose(1, 2, 0)
        assert np.array_equal(frame, env.physics.render(84, 84, camera_id=2))
        assert not np.array_equal(frame, env.physics.render(84, 84, camera_id=0))


@pytest.mark.parametrize(
    ("task", "camera", "same"),
    [("walker_walk", "back", 1), ("reach_duplo", 0, "front_close"), ("cartpole_balance", 0, None)],
)
def test_a_camera_is_a_number_or_a_name(task, camera, same):
    frames = []
    for chosen in (camera, same, 0):
        with contextlib.closing(make_env(task, camera=chosen, image_size=32)) as env:
            frames.append(env.reset().observation)
    assert np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[0], frames[2]) == (camera == 0)


@pytest.mark.parametrize("camera", [4, -1, "front", True])
def test_a_camera_that_does_not_exist_is_answered_with_those_that_do(camera):
    with pytest.raises(InvalidInput) as error:
        make_env("walker_walk", camera=camera)
    assert str(error.value) == f"env.camera must be a camera of walker_walk: 0 (side), 1 (back); got {camera!r}"


def test_all_environments_of_a_task_have_one_model():
    """Tasks such as this one draw it at construction."""
    masses = []
    for seed in (1, 2):
        with contextlib.closing(make_env("lqr_lqr_2_1", seed, image_size=24)) as env:
            masses.append(env.physics.model.jnt_stiffness.copy())
    assert np.array_equal(*masses)


def test_one_seed_gives_one_sequence_of_frames():
    def frames(seed):
        with contextlib.closing(make_env("cartpole_balance", seed, image_size=24)) as env:
            return [env.reset().observation, *(env.step(np.ones(1, np.float32)).observation for _ in range(5))]

    assert np.array_equal(frames(3), frames(3))
    assert not np.array_equal(frames(3), frames(4))


def test_dm_control_and_mujoco_are_a_pair_that_works():
    found = provenance.versions()
    assert (found["dm_control"], found["mujoco"]) in MATCHING_PAIRS


class Script(dm_env.Environment):
    """Plays a list of time steps."""

    def __init__(self, time_steps):
        self.time_steps = list(time_steps)

    def reset(self):
        return dm_env.restart(np.zeros(1))

    def step(self, action):
        return self.time_steps.pop(0)

    def observation_spec(self):
        return specs.Array((1,), float)

    def action_spec(self):
        return specs.BoundedArray((1,), np.float32, -1, 1)


def test_action_repeat_sums_rewards_and_stops_at_the_end():
    obs = np.zeros(1)
    env = ActionRepeat(
        Script(
            [
                dm_env.transition(1.0, obs),
                dm_env.transition(2.0, obs),
                dm_env.termination(4.0, obs),
                dm_env.transition(8.0, obs),
            ]
        ),
        2,
    )
    first, last = env.step(None), env.step(None)
    assert (first.reward, first.discount, first.last()) == (3.0, 1.0, False)
    assert (last.reward, last.discount, last.last()) == (4.0, 0.0, True)
    assert len(env.time_steps) == 1


def test_a_time_limit_keeps_its_discount_through_the_repeat():
    obs = np.zeros(1)
    last = ActionRepeat(Script([dm_env.transition(1.0, obs), dm_env.truncation(2.0, obs, discount=1.0)]), 2).step(None)
    assert (last.reward, last.discount, last.last()) == (3.0, 1.0, True)


@pytest.mark.parametrize(
    ("task", "action"),
    [
        ("cheetah_run", [0.5]),
        ("cheetah_run", [5.0] * 6),
        ("synthetic_point", [[0.0, 0.0]]),
        ("synthetic_point", [0.0, float("nan")]),
        ("synthetic_point", ["0", "0"]),
    ],
)
def test_an_action_outside_the_spec_is_refused(task, action):
    with contextlib.closing(make_env(task, image_size=24)) as env:
        env.reset()
        shape = env.action_spec().shape
        message = re.escape(f"action must be numbers of shape {shape} in [-1, 1], got ")
        with pytest.raises(InvalidInput, match=message):
            env.step(action)
        env.step(np.ones(shape))  # the bounds belong to the range


def test_an_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(InvalidInput, match="did you mean 'cheetah_run'"):
        make_env("cheetah_rum")


@pytest.mark.parametrize("task", ["cartpole_balance", "reach_duplo"])
def test_closing_gives_the_renderer_back(task):
    env = make_env(task, image_size=24)
    env.reset()
    physics = env.physics
    assert physics.contexts is not None
    env.close()
    assert physics._contexts is None


@pytest.mark.parametrize(
    "task", ["cartpole_balance", pytest.param("quadruped_walk", marks=pytest.mark.slow), "reach_duplo"]
)
def test_frames_are_what_dm_control_draws(task):
    """Also after a reset, which compiles another model for a manipulation task, and between frames of another size."""
    env = make_env(task, 1)
    for _ in range(2):
        time_steps = [env.reset(), *(env.step(np.ones(env.action_spec().shape)) for _ in range(3))]
        video_frame = env.render(128, 128)
        expected = env.physics.render(
            84, 84, camera_id={"quadruped_walk": 2, "reach_duplo": "front_close"}.get(task, 0)
        )
        assert np.array_equal(time_steps[-1].observation[-3:], expected.transpose(2, 0, 1))
        assert not np.array_equal(time_steps[0].observation, time_steps[-1].observation)  # frames share no memory
        assert video_frame.shape == (128, 128, 3)
    env.close()


@pytest.mark.parametrize(("option", "flag"), [("shadows", "shadow"), ("reflections", "reflection")])
def test_shadows_and_reflections_can_be_off(option, flag):
    with contextlib.closing(make_env("reacher_easy", 1, **{option: False})) as env:
        frame = env.reset().observation[-3:].transpose(1, 2, 0)
        without = env.physics.render(84, 84, camera_id=0, render_flag_overrides={flag: False})
        assert np.array_equal(frame, without)
        assert not np.array_equal(frame, env.physics.render(84, 84, camera_id=0))


@pytest.mark.parametrize("task", ["walker_walk", pytest.param("reach_duplo", marks=pytest.mark.slow)])
def test_a_smaller_shadow_map_changes_little(task):
    frames = []
    for size in (None, 256):
        env = make_env(task, 1, shadow_map_size=size)
        frames.append(env.reset().observation.astype(int))
        env.close()
    difference = np.abs(frames[0] - frames[1])
    assert 0 < difference.mean() < 1
    with pytest.raises(InvalidInput, match=r"env\.shadow_map_size must be an integer >= 1, got 0"):
        make_env("walker_walk", shadow_map_size=0)


def test_all_suite_tasks_have_names():
    names = task_names()
    assert names["cup_catch"] == names["ball_in_cup_catch"] == ("ball_in_cup", "catch")
    assert names["humanoid_CMU_run"] == ("humanoid_CMU", "run")


@pytest.fixture
def _forget_backend(monkeypatch):
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)  # mujoco has set it
    gl.select_backend.cache_clear()
    yield
    gl.select_backend.cache_clear()


@pytest.mark.usefixtures("_forget_backend")
def test_the_first_backend_that_works_is_chosen(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")  # as if unset
    monkeypatch.setattr(gl, "probe", lambda name: ("llvmpipe", "") if name == "osmesa" else (None, "no such library"))
    backend = gl.select_backend()
    assert (backend.name, backend.is_software) == ("osmesa", True)
    assert gl.os.environ["MUJOCO_GL"] == "osmesa"


@pytest.mark.usefixtures("_forget_backend")
def test_without_a_backend_the_packages_are_named(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")  # as if unset
    monkeypatch.setattr(gl, "probe", lambda name: (None, "no such library"))
    with pytest.raises(InvalidInput, match=r"egl .no such library.*apt-get install libegl1"):
        gl.select_backend()


@pytest.mark.usefixtures("_forget_backend")
def test_a_misspelled_backend_gets_a_suggestion(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "elg")
    with pytest.raises(InvalidInput, match="did you mean 'egl'"):
        gl.select_backend()


def test_the_probe_reports_why_a_backend_fails():
    renderer, error = gl.probe("no_such_backend")
    assert renderer is None
    assert "no_such_backend" in error


DEFAULT_TASKS = ["lqr_lqr_2_1", "cheetah_run", "reach_duplo"]


def play_episode(task):
    """Play one episode with random actions, which may end in any way, but must end."""
    with contextlib.closing(make_env(task, image_size=17, action_repeat=100, shadows=False, reflections=False)) as env:
        spec, random = env.action_spec(), np.random.RandomState(0)
        time_step = env.reset()
        for _ in range(10):
            time_step = env.step(random.uniform(-1, 1, spec.shape).astype(np.float32))
            if time_step.last():
                break
    assert time_step.last()
    assert time_step.discount in (0.0, 1.0)
    assert np.isfinite(time_step.reward)


@pytest.mark.filterwarnings("ignore:.*(did not end within|simulation diverged)")
@pytest.mark.parametrize("task", DEFAULT_TASKS)
def test_an_episode_ends_within_1000_frames(task):
    play_episode(task)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(did not end within|simulation diverged)")
def test_an_episode_of_every_task_ends_within_1000_frames(subtests):
    for task in sorted(set(task_names()) - set(DEFAULT_TASKS)):
        with subtests.test(task):
            play_episode(task)


def test_a_task_without_a_time_limit_is_truncated_with_one_warning():
    with contextlib.closing(make_env("lqr_lqr_2_1", image_size=17, action_repeat=100)) as env:
        action = np.zeros(1, np.float32)
        for number in range(2):
            env.reset()
            steps = [env.step(action) for _ in range(9)]
            assert not any(step.last() for step in steps)
            if number == 0:
                with pytest.warns(UserWarning, match=r"env\.time_limit_frames sets the limit"):
                    last = env.step(action)
            else:
                last = env.step(action)
            assert (last.last(), last.discount) == (True, 1.0)
        assert env.step(action).first()


@pytest.mark.parametrize(("limit", "action_repeat", "num_steps"), [(7, 2, 4), (8, 2, 4), (1, 1, 1), (100, 1, 100)])
def test_a_time_limit_counts_frames(limit, action_repeat, num_steps):
    env = make_env("synthetic_point", image_size=24, action_repeat=action_repeat, time_limit_frames=limit)
    env.reset()
    steps = [env.step(np.zeros(2, np.float32)) for _ in range(num_steps)]
    assert [step.last() for step in steps] == [False] * (num_steps - 1) + [True]
    assert steps[-1].discount == 1.0


def test_a_time_limit_must_be_a_number_of_frames():
    with pytest.raises(InvalidInput, match=r"env\.time_limit_frames must be an integer >= 1, got 0"):
        make_env("synthetic_point", time_limit_frames=0)


def test_actuators_without_limits_get_the_action_as_it_is():
    with contextlib.closing(make_env("lqr_lqr_2_1", image_size=17, action_repeat=1)) as env:
        env.reset()
        rewards = [env.step(np.array([0.5], np.float32)).reward for _ in range(20)]
        assert env.physics.control() == 0.5
    assert min(rewards) > -10  # a cost of the order of the squared distance, which is sqrt(2) at first
