"""What profiles and benchmarks compute on: a configuration of their own, and a replay full of rendered steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.agents.runtime import Runtime
from drq_sn.cli.config.build import build_agent, config_dir
from drq_sn.envs.wrappers import PixelStack
from drq_sn.networks.normalizers.spectral import WARM_UP_UPDATES
from drq_sn.training.replay import UniformReplay

NUM_REAL_STEPS = 100  # rendered once, then stored over and over until the replay is full


def row_config(config_name: str, words: Sequence[str]) -> DictConfig:
    """The configuration of one measurement, as a run of its own would have it; of repeated words the last counts."""
    last = {word.split("=", 1)[0]: word for word in words}
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        cfg = compose(config_name, overrides=list(last.values()))
    cfg.run_dir = None
    cfg.num_train_frames = cfg.action_repeat * (cfg.replay_steps + 1)
    OmegaConf.resolve(cfg)
    return cfg


def build_warm_agent(
    cfg: DictConfig, env: PixelStack, device: torch.device, runtime: Runtime | None = None
) -> ActorCriticAgent:
    """A fresh agent past the warm-up of its power iteration, whose updates cost what most updates of a run do."""
    agent = build_agent(cfg, env, device, runtime)
    agent.num_updates = WARM_UP_UPDATES
    return agent


def fill(replay: UniformReplay, env: PixelStack, num_steps: int) -> np.ndarray:
    """Store at least `num_steps` steps of random play, the same rendered episode again and again; return its last observation."""
    random = np.random.default_rng(0)
    episode = [(env.reset(), None)]
    for _ in range(NUM_REAL_STEPS):
        action = random.uniform(-1, 1, env.action_spec().shape).astype(np.float32)
        episode.append((env.step(action), action))
    for _ in range(-(-num_steps // NUM_REAL_STEPS)):
        for time_step, action in episode:
            replay.add(time_step, action)
    return episode[-1][0].observation
