"""A short run of each agent against pinned values: update steps, learning rate, noise, actions, seeds, u and v."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from drq_sn import agents
from drq_sn.cli.running import run as running
from drq_sn.networks.normalizers.power_iteration import tracked_layers
from drq_sn.training.replay import UniformReplay
from drq_sn.types import Episode

pytestmark = pytest.mark.process  # trains whole runs

OVERRIDES = [
    "action_repeat=2",
    "num_train_frames=100",
    "eval_every_frames=40",
    "num_random_steps=20",
    "batch_size=4",
    "lr=1e-3",
    "lr_schedule=linear",
    "head=modern2",
    "normalizer=spectral",
    "diagnose_states=0",
]
EVAL_STATES = {  # frame -> beginning of the SHA-256 of the random states of both episodes
    0: "addac6395e97ee1d",
    40: "f667b8d08f358a1c",
    80: "16b6771ca0413d32",
    100: "8d72c34a861b6dcf",
}
UNIFORM_ACTIONS = [[0.023643, 0.900927], [-0.081328, -0.875301]]  # at steps 0 and 19
GOLDEN = {
    "drqv2": {
        "overrides": ["agent.std_schedule.duration_steps=40"],
        "update_steps": range(20, 50, 2),
        "noise": {20: 0.55, 34: 0.235, 48: 0.1},
        "action": [0.453422, -0.579978],
        "rewards": [1.745467, 2.253647, 1.769226, 1.555856],
        "u": [0.424433, 0.248524, 0.194895, -0.122424],
        "v": [0.158533, 0.147527, 0.152012, -0.201334],
    },
    "drq": {
        "overrides": [],
        "update_steps": range(20, 50),
        "noise": {},
        "action": [-0.116227, -0.103143],
        "rewards": [0.888458, 0.360586, 0.816856, 0.745420],
        "u": [0.041791, -0.104002, 0.026187, 0.247237],
        "v": [-0.321009, -0.199244, -0.324142, -0.366378],
    },
}
LEARNING_RATES = {20: 6e-4, 34: 3.2e-4, 48: 4e-5}


class Recorder:
    """Records what a run does, by wrapping the agent's and the replay's methods and replacing the evaluation."""

    def __init__(self, monkeypatch, agent_class):
        self.learning_rates, self.noise, self.actions, self.explored, self.rewards = {}, {}, [], {}, []
        self.eval_states, self.agent = [], None
        update, act, add, sample = agent_class.update, agent_class.act, UniformReplay.add, UniformReplay.sample

        def recording_update(agent, batch, step):
            metrics = update(agent, batch, step)
            self.agent = agent
            self.learning_rates[step] = float(agent.optimizers["critic"].param_groups[0]["lr"])
            if "std" in metrics:
                self.noise[step] = float(metrics["std"])
            return metrics

        def recording_act(agent, obs, step, explore):
            self.explored[step] = act(agent, obs, step, explore)
            return self.explored[step]

        def recording_add(replay, time_step, action):
            if action is not None:
                self.actions.append(action.tolist())
            add(replay, time_step, action)

        def recording_sample(replay):
            self.rewards.append(sample(replay))
            return self.rewards[-1]

        def evaluate(pool, agent, random_states, record, before_step):
            self.eval_states.append(hashlib.sha256("".join(random_states).encode()).hexdigest()[:16])
            return [Episode(np.zeros((9, 24, 24), np.uint8), [1.0])] * len(random_states)

        monkeypatch.setattr(agent_class, "update", recording_update)
        monkeypatch.setattr(agent_class, "act", recording_act)
        monkeypatch.setattr(UniformReplay, "add", recording_add)
        monkeypatch.setattr(UniformReplay, "sample", recording_sample)
        monkeypatch.setattr(running, "evaluate", evaluate)


@pytest.mark.parametrize(("name", "agent_class"), [("drqv2", agents.DrQV2), ("drq", agents.DrQ)])
def test_a_run_does_what_was_pinned(configure, monkeypatch, name, agent_class):
    golden, recorder = GOLDEN[name], Recorder(monkeypatch, agent_class)
    running.run(configure(f"agent={name}", *OVERRIDES, *golden["overrides"]))

    assert recorder.eval_states == list(EVAL_STATES.values())
    assert list(recorder.learning_rates) == list(golden["update_steps"])
    assert {step: recorder.learning_rates[step] for step in LEARNING_RATES} == pytest.approx(LEARNING_RATES, rel=1e-6)
    assert {step: recorder.noise[step] for step in golden["noise"]} == pytest.approx(golden["noise"], rel=1e-6)
    assert len(recorder.actions) == 50
    assert list(recorder.explored) == list(range(20, 50))
    assert np.array([recorder.actions[0], recorder.actions[19]]) == pytest.approx(np.array(UNIFORM_ACTIONS), abs=1e-6)
    assert recorder.actions[20] == pytest.approx(golden["action"], abs=1e-4)
    assert recorder.rewards[0].reward.tolist() == pytest.approx(golden["rewards"], abs=1e-5)
    layer = next(iter(tracked_layers(recorder.agent.networks["critic_target"]).values()))
    for vector in ("u", "v"):
        assert torch.flatten(getattr(layer, vector))[:4].tolist() == pytest.approx(golden[vector], abs=1e-4)
