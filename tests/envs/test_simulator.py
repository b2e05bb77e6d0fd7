"""Any dm_env environment: what it must give, and that its episodes repeat."""

from __future__ import annotations

import types

import dm_env
import numpy as np
import pytest
from dm_env import specs

from drq_sn import make_env
from drq_sn.envs.wrappers import ActionScale
from drq_sn.validation import InvalidInput

SHAPE = (20, 30, 3)
ACTIONS = specs.BoundedArray((2,), np.float32, [-0.5, 2.0], [0.5, 6.0])


class Camera(dm_env.Environment):
    """The frame is as bright as a random number drawn by `draw` at a reset; the reward is the first action."""

    def __init__(self, draw, spec=None, actions=ACTIONS, last=None):
        self.draw, self.spec, self.actions = draw, spec or specs.Array(SHAPE, np.uint8), actions
        self.last, self.taken, self.is_closed = last or dm_env.transition(0.0, None), [], False

    def reset(self):
        self.brightness = self.draw()
        return dm_env.restart(self.observe())

    def step(self, action):
        self.taken.append(action)
        return self.last._replace(observation=self.observe())

    def observe(self):
        return np.full(SHAPE, self.brightness, np.uint8)

    def observation_spec(self):
        return self.spec

    def action_spec(self):
        return self.actions

    def close(self):
        self.is_closed = True


class SeededByReset(Camera):
    def reset(self, seed=None):
        self.draw = lambda: seed % 256
        return super().reset()


def with_random():
    random = np.random.RandomState()
    env = Camera(lambda: random.randint(256))
    env.random = random
    return env


def with_task():
    random = np.random.RandomState()
    env = Camera(lambda: random.randint(256))
    env.task = types.SimpleNamespace(random=random)
    return env


def rebuilt(seed):
    return Camera(lambda: np.random.default_rng(seed).integers(256))


def seeded_by_reset():
    return SeededByReset(None)


def unseeded():
    return Camera(lambda: np.random.default_rng().integers(256))


def constant(**options):
    return lambda: Camera(lambda: 7, **options)


def brightness(env, num_episodes=8):
    return [int(env.reset().observation[0, 0, 0]) for _ in range(num_episodes)]


@pytest.mark.parametrize("maker", [with_random, with_task, rebuilt, seeded_by_reset])
def test_episodes_follow_from_seed_and_random_state(maker):
    env = make_env("any", 5, maker=maker, image_size=10)
    start = env.random_state
    first, second = brightness(env), brightness(env)
    assert len(set(first + second)) > 3
    assert brightness(make_env("any", 5, maker=maker, image_size=10)) == first
    assert brightness(make_env("any", 6, maker=maker, image_size=10)) != first
    env.random_state = start
    assert brightness(env) + brightness(env) == first + second


def test_an_environment_that_is_rebuilt_closes_the_previous_one():
    envs = []

    def maker(seed):
        envs.append(rebuilt(seed))
        return envs[-1]

    env = make_env("any", maker=maker)
    env.reset()
    env.reset()
    assert [each.is_closed for each in envs] == [True, True, False]
    env.close()
    assert envs[-1].is_closed


def test_without_seeds_there_is_no_random_state():
    env = make_env("any", 5, maker=unseeded)
    assert env.random_state == ""
    env.random_state = make_env("any", 5, maker=with_random).random_state  # an evaluation sets it
    assert len(set(brightness(env, 20))) > 1


def test_frames_are_resized_and_stacked():
    env = make_env("any", maker=constant(), image_size=12, frame_stack=4)
    time_step = env.reset()
    env.observation_spec().validate(time_step.observation)
    assert time_step.observation.shape == (12, 12, 12)
    assert np.all(time_step.observation == 7)
    assert env.render(50, 40).shape == (50, 40, 3)


def test_a_frame_of_the_right_size_is_not_changed():
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    env = Camera(lambda: 0, spec={"pixels": specs.Array(frame.shape, np.uint8), "joints": specs.Array((2,), float)})
    env.observe = lambda: {"pixels": frame, "joints": np.zeros(2)}
    made = make_env("any", maker=lambda: env, image_size=16)
    assert np.array_equal(made.reset().observation[-3:].transpose(1, 2, 0), frame)
    halved = make_env("any", maker=lambda: env, image_size=8).reset().observation[-3:].transpose(1, 2, 0)
    means = frame.reshape(8, 2, 8, 2, 3).mean((1, 3))
    assert np.abs(halved - means).max() <= 1  # rounded


def test_an_environment_that_renders_needs_no_pixels():
    class Rendering(Camera):
        def render(self, height, width):
            return np.full((height, width, 3), 9, np.uint8)

    env = Rendering(lambda: 0, spec=specs.Array((4,), float))
    assert np.all(make_env("any", maker=lambda: env, image_size=12).reset().observation == 9)


def test_actions_are_scaled_to_the_bounds():
    made = make_env("any", maker=constant(), action_repeat=2)
    spec = made.action_spec()
    assert (spec.shape, spec.minimum, spec.maximum) == ((2,), -1, 1)
    made.reset()
    for action in ([-1, -1], [1, 1], [0, 0.5]):
        made.step(np.array(action, np.float32))
    taken = np.array(made.taken)
    assert taken.dtype == np.float32
    assert taken[::2].tolist() == taken[1::2].tolist() == [[-0.5, 2], [0.5, 6], [0, 5]]


def test_actions_are_scaled_as_by_dm_control():
    from dm_control.suite.wrappers import action_scale

    spec = specs.BoundedArray((3,), np.float64, [-1, -0.3, 0.1], [1, 0.7, 50.0])
    ours, theirs = Camera(lambda: 0, actions=spec), Camera(lambda: 0, actions=spec)
    for action in np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32):
        ours.brightness = theirs.brightness = 0
        ActionScale(ours).step(action)
        action_scale.Wrapper(theirs, -1.0, 1.0).step(action)
    assert np.array_equal(ours.taken, theirs.taken)


def test_options_reach_the_function():
    got = {}

    def maker(task, image_size, camera, speed, seed):
        got.update(task=task, image_size=image_size, camera=camera, speed=speed, seed=seed)
        return constant()()

    make_env("mine", 3, maker=maker, image_size=20, camera="left", shadows=False, speed=2.0)
    assert got == {"task": "mine", "image_size": 20, "camera": "left", "speed": 2.0, "seed": 0}


def bad_frame(observation):
    def maker():
        env = constant()()
        env.observe = lambda: observation
        return env

    return maker


BAD_MAKERS = {
    "MODULE.FUNCTION, both of which exist, got 'no_such_module.make' (No module named 'no_such_module')": (
        "no_such_module.make"
    ),
    "got 'json.lods' (module 'json' has no attribute 'lods')": "json.lods",
    "got 'make' (Empty module name)": "make",
    "must be a function or class, got 'json.__name__', which is 'json'": "json.__name__",
    "missing a required argument: 'port'": lambda port: None,
    "must return a dm_env.Environment, got dict; env=gymnasium adapts": lambda: {},
    "must be a Python function or class, got dict (no signature": dict,
    "(H, W, 3) uint8, or a dictionary with such `pixels`, got float64 (4,)": constant(spec=specs.Array((4,), float)),
    "got uint8 (20, 30, 1)": constant(spec=specs.Array((20, 30, 1), np.uint8)),
    "got a dictionary of image": constant(spec={"image": specs.Array(SHAPE, np.uint8)}),
    "finite bounds, got Array(shape=(2,)": constant(actions=specs.Array((2,), np.float32)),
    "maximum=inf": constant(actions=specs.BoundedArray((2,), np.float32, -1, np.inf)),
    "finite bounds, got BoundedArray(shape=(2, 2)": constant(actions=specs.BoundedArray((2, 2), np.float32, -1, 1)),
}


@pytest.mark.parametrize(("message", "maker"), BAD_MAKERS.items())
def test_what_cannot_be_an_environment_is_one_line(message, maker):
    with pytest.raises(InvalidInput) as error:
        make_env("any", maker=maker)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_planes_without_a_picture_for_videos_are_refused():
    env = constant()()
    env.gives_planes = True
    with pytest.raises(InvalidInput, match=r"must have render\(height, width\), for videos of its planes"):
        make_env("any", maker=lambda: env)


@pytest.mark.parametrize(
    ("message", "observation"),
    [
        ("observation of maker must be (H, W, 3) uint8", np.zeros(SHAPE)),
        ("got uint8 (20, 30)", np.zeros(SHAPE[:2], np.uint8)),
        ("observation of", None),
    ],
)
def test_an_observation_that_is_no_frame_is_named(message, observation):
    made = make_env("any", maker=bad_frame(observation))
    with pytest.raises(InvalidInput) as error:
        made.reset()
    assert message.replace("maker", "bad_frame.<locals>.maker") in str(error.value)


@pytest.mark.parametrize(
    "last",
    [
        dm_env.transition(None, None),
        dm_env.transition(np.zeros(1), None),
        dm_env.transition(1.0, None, discount=1.5),
        dm_env.TimeStep(dm_env.StepType.MID, 1.0, None, None),
    ],
)
def test_rewards_and_discounts_must_be_numbers(last):
    env = make_env("any", maker=constant(last=last))
    env.reset()
    with pytest.raises(InvalidInput, match=r"a number as reward and one in \[0, 1\] as discount"):
        env.step(np.zeros(2))


def test_another_kind_of_time_step_is_refused():
    env = constant()()
    env.reset = lambda: (np.zeros(SHAPE, np.uint8), {})
    with pytest.raises(InvalidInput, match=r"reset of .* must return a dm_env.TimeStep, got tuple"):
        make_env("any", maker=lambda: env).reset()


def test_a_camera_is_refused_where_there_is_none():
    with pytest.raises(InvalidInput, match=r"env\.camera must be null for .*constant"):
        make_env("any", maker=constant(), camera=1)
    with pytest.raises(InvalidInput, match="must be null for synthetic_point, got 1"):
        make_env("synthetic_point", camera=1)
