"""Gymnasium environments; where Gymnasium is not installed, through a small module with the same interface."""

from __future__ import annotations

import importlib.util
import json
import sys
import types

import numpy as np
import pytest

from drq_sn import make_env
from drq_sn.cli.running.run import run
from drq_sn.validation import InvalidInput
from tests.builders import read_csv

MAKER = "drq_sn.envs.gymnasium.make_env"
REAL = pytest.mark.skipif(not importlib.util.find_spec("gymnasium"), reason="Gymnasium is not installed")


class Box:
    def __init__(self, low, high, shape, dtype=np.float32):
        self.low, self.high = np.full(shape, low, dtype), np.full(shape, high, dtype)
        self.shape, self.dtype = shape, np.dtype(dtype)


class Discrete:
    shape, dtype = (), np.dtype(np.int64)

    def __init__(self, n):
        self.n = n

    def __repr__(self):
        return f"Discrete({self.n})"


class Dict:
    shape = dtype = None

    def __init__(self, spaces):
        self.spaces = spaces

    def __getitem__(self, key):
        return self.spaces[key]


def stand_in():
    """What the adapter and the environments below use of Gymnasium."""
    module, registry = types.ModuleType("gymnasium"), {}
    module.Env = type("Env", (), {"reset": lambda self, seed=None: None, "close": lambda self: None})
    module.spaces = types.SimpleNamespace(Box=Box, Discrete=Discrete, Dict=Dict)
    module.error = types.SimpleNamespace(Error=type("Error", (Exception,), {}))

    def make(task, render_mode=None, **options):
        if task not in registry:
            raise module.error.Error(f"Environment `{task}` doesn't exist.\nmore")
        return registry[task](render_mode=render_mode, **options)

    module.make, module.register = make, lambda id, entry_point: registry.update({id: entry_point})
    return module


@pytest.fixture(params=["stand-in", pytest.param("installed", marks=REAL)])
def gymnasium(request, monkeypatch):
    if request.param == "installed":
        module = importlib.import_module("gymnasium")
    else:
        module = stand_in()
        monkeypatch.setitem(sys.modules, "gymnasium", module)
    spaces = module.spaces
    pixels, joints = spaces.Box(0, 255, (20, 30, 3), np.uint8), spaces.Box(-1, 1, (4,))

    class Env(module.Env):
        """Brightness drawn at a reset; action 1 terminates, the fifth step truncates; the reward is the action."""

        action_space, observation_space, gives = spaces.Box(0.0, 2.0, (1,)), pixels, "pixels"

        def __init__(self, render_mode=None, num_steps=5):
            self.render_mode, self.num_steps = render_mode, num_steps

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            self.seed, self.t = seed, 0
            self.image = np.full((20, 30, 3), np.random.default_rng(seed).integers(256), np.uint8)
            return self.observe(), {}

        def step(self, action):
            self.t += 1
            terminated = bool(action[0] > 1.5)
            return self.observe(), float(action[0]), terminated, self.t == self.num_steps, {}

        def observe(self):
            joints = np.zeros(4, np.float32)
            return {"pixels": self.image.copy(), "dict": {"pixels": self.image.copy(), "joints": joints}}.get(
                self.gives, joints
            )

        def render(self):
            return self.image

    Env.metadata = {"render_modes": ["rgb_array"], "render_fps": 50}
    changes = {
        "Pixels-v0": {},
        "Dict-v0": {"gives": "dict", "observation_space": spaces.Dict({"pixels": pixels, "joints": joints})},
        "Rendered-v0": {"gives": "joints", "observation_space": joints},
        "Discrete-v0": {"action_space": spaces.Discrete(2)},
        "Unbounded-v0": {"action_space": spaces.Box(-np.inf, np.inf, (1,))},
        "Blind-v0": {"gives": "joints", "observation_space": joints},
    }
    for task, change in changes.items():
        module.register(id=task, entry_point=type(task[:-3], (Env,), change))
    yield module
    if request.param == "installed":
        for task in changes:
            del module.registry[task]


def build(task, seed=0, **options):
    return make_env(task, seed, maker=MAKER, image_size=16, action_repeat=1, **options)


@pytest.mark.parametrize("task", ["Pixels-v0", "Dict-v0", "Rendered-v0"])
def test_an_episode_has_frames_scaled_actions_and_a_truncation(gymnasium, task):
    env = build(task)
    time_step = env.reset()
    assert time_step.observation.shape == (9, 16, 16)
    assert len(np.unique(time_step.observation)) == 1
    steps = [env.step(np.array([-0.5], np.float32)) for _ in range(5)]
    assert [step.reward for step in steps] == [0.5] * 5  # bounds 0 and 2
    assert [step.last() for step in steps] == [False] * 4 + [True]
    assert [step.discount for step in steps] == [1.0] * 5
    env.close()


def test_a_terminated_episode_has_discount_0(gymnasium):
    env = build("Pixels-v0")
    env.reset()
    last = env.step(np.ones(1, np.float32))
    assert (last.last(), last.discount, last.reward) == (True, 0.0, 2.0)


def test_a_termination_at_the_time_limit_stays_one(gymnasium):
    env = build("Pixels-v0", num_steps=1)
    env.reset()
    assert env.step(np.ones(1, np.float32)).discount == 0.0


def test_episodes_follow_from_seed_and_random_state(gymnasium):
    env, other = build("Rendered-v0", 3), build("Rendered-v0", 4)
    state = env.random_state
    frames, others = ([int(each.reset().observation[0, 0, 0]) for _ in range(6)] for each in (env, other))
    assert frames != others
    assert len(set(frames)) > 2
    env.random_state = state
    assert [int(env.reset().observation[0, 0, 0]) for _ in range(6)] == frames


def test_videos_play_at_the_rate_of_the_environment(gymnasium):
    assert build("Pixels-v0").control_timestep() == 1 / 50


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("Discrete-v0", {}, "actions of Discrete-v0 must be a Box of bounded numbers, got Discrete(2)"),
        ("Unbounded-v0", {}, "actions must be a vector of floats with finite bounds"),
        ("Blind-v0", {"render_mode": None}, "Blind-v0 must have pixels (H, W, 3) uint8 as observation or support"),
        ("Nothing-v0", {}, "task=Nothing-v0: Environment `Nothing` doesn't exist"),
        ("Pixels-v0", {"speed": 3}, "unexpected keyword argument 'speed'"),
    ],
)
def test_what_cannot_be_used_is_one_line(gymnasium, task, options, message):
    with pytest.raises(InvalidInput) as error:
        build(task, **options)
    assert message.replace("`Nothing`", "") in str(error.value).replace("`Nothing`", "").replace("`Nothing-v0`", "")
    assert "\n" not in str(error.value)


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(InvalidInput, match=r"needs 'pip install drq_sn\[gymnasium\]'"):
        build("CarRacing-v3")


def test_it_trains_with_the_presets_of_the_suite(gymnasium, configure, tmp_path):
    run(configure("env=gymnasium", "task=Dict-v0", "preset=laptop", "+env.num_steps=20", "num_train_frames=200"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["env"]["repeats_episodes"]) == ("finished", True)
    assert read_csv(tmp_path / "run" / "eval.csv")[-1]["frame"] == "200"


def test_a_missing_package_for_rendering_is_one_line(gymnasium, monkeypatch):
    env = gymnasium.make("Rendered-v0", render_mode="rgb_array")
    missing = gymnasium.error.Error("pygame is not installed")
    monkeypatch.setattr(type(getattr(env, "unwrapped", env)), "render", raise_(missing), raising=False)
    with pytest.raises(InvalidInput, match="task=Rendered-v0: pygame is not installed"):
        build("Rendered-v0")


def raise_(error):
    def render(self):
        raise error

    return render
