"""Fixtures of all tests, and the automatic `process` marker; builders without a fixture are in `tests/builders.py`."""

from __future__ import annotations

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from drq_sn.cli.config.build import build_agent
from drq_sn.envs import make_env
from tests.builders import TINY, compose_config, random_batch

STARTERS = {"subprocess", "run_module", "EnvironmentProcess"}  # names of what starts other processes


def pytest_collection_modifyitems(items):
    """Mark every test of a module that imports one of `STARTERS` as `process`."""
    for item in items:
        if STARTERS & vars(item.module).keys():
            item.add_marker(pytest.mark.process)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def configure(tmp_path):
    """`configure("agent=drq", ...)` -> the configuration of a tiny run in a temporary directory."""

    def build(*overrides, run_dir="run"):
        cfg = compose_config(*TINY, *overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)  # what Hydra's own main does
        OmegaConf.set_struct(cfg, False)
        del cfg["hydra"]
        OmegaConf.set_struct(cfg, True)
        cfg.run_dir = str(tmp_path / run_dir)
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
    return random_batch()
