"""What several tests share: small agents and batches, and configurations composed from the command line's words."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from drq_sn.cli.config.build import build_agent, config_dir
from drq_sn.envs import make_env
from drq_sn.types import Batch

TINY = [
    "task=synthetic_point",
    "num_train_frames=400",
    "eval_every_frames=200",
    "num_eval_episodes=2",
    "num_eval_processes=1",
    "diagnose_states=16",
    "num_random_steps=60",
    "batch_size=8",
    "head.width=16",
    "env.image_size=24",
    "agent.num_filters=4",
    "video_every_frames=0",
    "device=cpu",
]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def configure(tmp_path):
    """`configure("agent=drq", ...)` -> the resolved configuration of a tiny run in a temporary folder."""

    def build(*overrides, run_dir="run"):
        words = [*TINY, f"run_dir={tmp_path / run_dir}", *overrides]
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            cfg = compose("train", overrides=words, return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            OmegaConf.set_struct(cfg, False)
            del cfg["hydra"]
            OmegaConf.set_struct(cfg, True)
        return cfg

    return build


@pytest.fixture
def agent_of(configure):
    """`agent_of("agent=drq", ...)` -> a tiny agent on 24x24 frames with two action dimensions."""

    def build(*overrides):
        torch.manual_seed(0)
        return build_agent(configure(*overrides), make_env("synthetic_point", image_size=24), torch.device("cpu"))

    return build


@pytest.fixture
def batch():
    """Eight random transitions."""
    generator = torch.Generator().manual_seed(0)
    shape = (8, 9, 24, 24)
    return Batch(
        obs=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        action=torch.rand(8, 2, generator=generator) * 2 - 1,
        reward=torch.rand(8, generator=generator),
        discount=torch.full((8,), 0.97),
        next_obs=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
    )
