"""Runs in environments of one's own: resumed exactly where episodes repeat, never wrong where they do not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import drq_sn
from drq_sn.cli import evaluate
from drq_sn.cli.running.run import run
from drq_sn.runs.checkpoints import CheckpointStore
from drq_sn.training.replay import UniformReplay
from drq_sn.validation import InvalidInput
from tests.builders import ROOT, TINY, invoke, training_result
from tests.cli.running.interruptions import Killed, kill

PAGE = (ROOT / "docs" / "environments.md").read_text()
MODULE = """
import numpy as np
from drq_sn.envs.synthetic import PointMass

class Hidden(PointMass):
    def __init__(self, random):
        self._hidden, self._position, self._frame = random, np.zeros(2), 100

    def reset(self):
        self.random = self._hidden
        time_step = super().reset()
        del self.random
        return time_step

class SeededByReset(Hidden):
    def __init__(self):
        super().__init__(None)

    def reset(self, seed):
        self._hidden = np.random.RandomState(seed)
        return super().reset()

class Liar(Hidden):
    def __init__(self):
        super().__init__(np.random.default_rng())

    def reset(self, seed):
        return super().reset()

def rebuilt(seed):
    return Hidden(np.random.RandomState(seed))

def unseeded():
    return Hidden(np.random.default_rng())
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_envs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_envs", None)


def own(name):
    return [f"env._target_={name}", "task=own"]


def interrupted_run(configure, interrupt, *overrides, steps=(16, 38, 65)):
    interrupt(kill, *steps)
    for _ in steps:
        with pytest.raises(Killed):
            run(configure(*overrides, "checkpoint_every_frames=14"))
    run(configure(*overrides, "checkpoint_every_frames=14"))


@pytest.mark.parametrize(
    "name",
    [
        "own_envs.SeededByReset",
        pytest.param("drq_sn.envs.synthetic.PointMass", marks=pytest.mark.slow),
        pytest.param("own_envs.rebuilt", marks=pytest.mark.slow),
    ],
)
def test_a_run_resumes_exactly(configure, tmp_path, interrupt, name):
    run(configure(*own(name), run_dir="uninterrupted"))
    interrupted_run(configure, interrupt, *own(name))
    assert training_result(tmp_path / "run") == training_result(tmp_path / "uninterrupted")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["env"] == {"target": name, "repeats_episodes": True}
    assert {"name": "env._target_", "value": name, "published": "drq_sn.envs.suite.make_env"} in record["overrides"]


@pytest.mark.parametrize("name", ["own_envs.Liar", pytest.param("own_envs.unseeded", marks=pytest.mark.slow)])
def test_an_episode_that_cannot_be_repeated_is_left(configure, tmp_path, interrupt, capsys, name):
    overrides = [*own(name), "keep_checkpoint=true", "action_repeat=2", "num_train_frames=300"]
    with pytest.warns(UserWarning, match="does not repeat the interrupted episode") as caught:
        interrupted_run(configure, interrupt, *overrides, steps=(33, 77, 130))
    assert len(caught) == 3
    assert capsys.readouterr().err.count("cannot be seeded") == (4 if name == "own_envs.unseeded" else 0)
    # PointMass moves by 0.1 per frame: a transition between two episodes would move the dot further
    store = CheckpointStore(tmp_path / "run")
    checkpoint = store.newest()
    replay = UniformReplay((9, 24, 24), 2, capacity_steps=400, batch_size=8, n_step=3, gamma=0.99)
    replay.restore(checkpoint.state["replay"], store.replay_parts(checkpoint.parts))
    batch = replay.peek(500, seed=0)
    first, last = (brightest(frames) for frames in (batch.obs[:, -3], batch.next_obs[:, -3]))
    assert np.abs(first - last).max() <= 0.2 * 3 * 12 + 1


def brightest(frames):
    """Position of the dot in pixels, (B, 2)."""
    flat = frames.reshape(len(frames), -1).argmax(1)
    return torch.stack([flat // 24, flat % 24], 1).numpy()


def test_evaluation_processes_find_the_module(configure, tmp_path):
    results = []
    for number in (1, 2):
        run(
            configure(
                *own("own_envs.SeededByReset"),
                "num_train_frames=160",
                f"num_eval_processes={number}",
                run_dir=f"run_{number}",
            )
        )
        results.append(training_result(tmp_path / f"run_{number}"))
    assert results[0] == results[1]
    words = [f"run={tmp_path / 'run_1'}", "episodes=2", "device=cpu"]
    assert "got 'own_envs.SeededByReset'" in invoke(evaluate.main, *words).stderr
    result = invoke(evaluate.main, *words, "trusted=own_envs.SeededByReset")
    assert result.returncode == 0, result.stderr


def test_a_run_is_played_in_its_own_environment(configure, tmp_path):
    run(configure("action_repeat=10", "num_train_frames=200", "env.frame_stack=2", "num_random_steps=10"))
    env, agent = drq_sn.load_env(tmp_path / "run", seed=7), drq_sn.load_agent(tmp_path / "run")
    with contextlib.closing(env):
        time_step, num_steps = env.reset(), 0
        assert time_step.observation.shape == (6, 24, 24)
        while not time_step.last():
            time_step, num_steps = env.step(agent.act(time_step.observation, 0, explore=False)), num_steps + 1
        assert num_steps == 10
        other = drq_sn.load_env(tmp_path / "run", seed=8)
        assert not np.array_equal(env.reset().observation, other.reset().observation)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (own("no_such_module.make"), "No module named 'no_such_module'"),
        (own("own_envs.make"), "module 'own_envs' has no attribute 'make'"),
        (own("own_envs.np"), "env._target_ must be a function or class, got 'own_envs.np'"),
        (own("own_envs.Hidden"), "own_envs.Hidden: missing a required argument: 'random'"),
        ([*own("own_envs.unseeded"), "+env.speed=1"], "own_envs.unseeded: got an unexpected keyword argument 'speed'"),
        ([*own("own_envs.unseeded"), "env.camera=front"], "env.camera must be null for own_envs.unseeded"),
        (["env.frame_stack=0"], "env.frame_stack must be an integer >= 1 and <= 100, got 0"),
        (["task=cartpole_balance", "env.camera=9"], "env.camera must be a camera of cartpole_balance: 0 (fixed), 1"),
        (["task=cartpole_balance", "env.camera=font"], "1 (lookatcart); got 'font'"),
    ],
)
def test_an_unusable_environment_is_one_line(configure, tmp_path, words, message):
    with pytest.raises(InvalidInput) as error:
        run(configure(*words))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_example_of_the_page_trains(tmp_path):
    """The gripper, from the working directory, with the commands of the page made short."""
    (code,) = re.findall(r"```python\n# my_robot.py\n(.*?)```", PAGE, re.S)
    (tmp_path / "my_robot.py").write_text(code)
    commands = re.findall(r"^drq-sn (.*?my_robot.*|evaluate .*)$", PAGE, re.M)
    assert len(commands) == 2
    short = [word for word in TINY if not word.startswith(("task=", "head=", "normalizer="))]
    short += ["num_train_frames=200", "num_eval_episodes=1", "diagnose_states=0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    last = {word.split("=")[0]: word for word in [*commands[0].split(), *short]}
    words = [sys.executable, "-m", "drq_sn.cli.main", *last.values()]
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Warning" not in result.stderr
    result = invoke(evaluate.main, *commands[1].split()[1:-1], "episodes=1", "device=cpu")
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "runs/gripper/drqv2_modern4_spectral_laptop/seed_1/run.json").read_text())
    assert record["status"] == "finished"
    assert {"name": "env.speed", "value": 0.2, "published": "absent"} in record["overrides"]
