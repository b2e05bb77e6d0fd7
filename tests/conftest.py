"""Fixtures of all tests, and the automatic `process` marker; builders without a fixture are in `tests/builders.py`."""

from __future__ import annotations

import gc
import importlib

import pytest
import torch

from drq_sn.cli.config.build import build_agent
from drq_sn.cli.running.run import run as train_run
from drq_sn.envs import make_env
from tests.builders import TINY, random_batch, run_config

STARTERS = {"subprocess", "run_module", "EnvironmentProcess", "row_config"}  # of processes or published networks


def pytest_collection_modifyitems(items):
    """Mark as `process` what starts processes, renders, trains whole runs or networks of published size."""
    for item in items:
        names = vars(item.module)
        uses_runs = {"finished_run", "stopped_run"} & set(item.fixturenames)
        if uses_runs or STARTERS & names.keys() or names.get("run") is train_run or "/envs/" in item.nodeid:
            item.add_marker(pytest.mark.process)


def pytest_collection_finish():
    """Keep what is imported out of garbage collections: every run starts with one."""
    importlib.import_module("torch._dynamo")  # as the first optimizer does
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def configure(tmp_path):
    """`configure("agent=drq", ...)` -> the configuration of a tiny run in a temporary directory."""

    def build(*overrides, run_dir="run"):
        return run_config(tmp_path / run_dir, *TINY, *overrides)

    return build


@pytest.fixture
def agent_of(configure):
    """`agent_of("agent=drq", ...)` -> a tiny agent, modern4 + SN, 24x24 frames and two action dimensions."""

    def build(*overrides, device="cpu"):
        torch.manual_seed(0)
        return build_agent(
            configure("head=modern4", "normalizer=spectral", *overrides),
            make_env("synthetic_point", image_size=24),
            torch.device(device),
        )

    return build


@pytest.fixture
def batch():
    """Eight random transitions."""
    return random_batch()
