"""The bound's operations, from layer shapes by hand, are those that PyTorch counts in a real update."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from drq_sn.cli.config.build import build_agent
from drq_sn.cli.workload import row_config
from drq_sn.envs import make_env
from drq_sn.profiling.profiler import PERIOD, count_flops
from drq_sn.types import Batch

PATH = Path(__file__).resolve().parent.parent / "tools" / "bound.py"
BATCH = 3


@pytest.fixture(scope="module")
def bound():
    spec = importlib.util.spec_from_file_location("bound", PATH)
    sys.modules["bound"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bound"]


@pytest.mark.parametrize(
    ("agent", "head", "normalizer"),
    [("drqv2", "mlp2", "none"), ("drqv2", "modern4", "spectral"), ("drq", "modern4", "spectral")],
)
def test_operations_by_hand_are_those_that_are_counted(bound, agent, head, normalizer):
    cfg = row_config("bench", [f"agent={agent}", f"head={head}", f"normalizer={normalizer}", "task=synthetic_point"])
    built = build_agent(cfg, make_env("synthetic_point"), torch.device("cpu"))
    images = torch.zeros(BATCH, 9, 84, 84, dtype=torch.uint8)
    batch = Batch(images, torch.zeros(BATCH, 2), torch.zeros(BATCH), torch.ones(BATCH), images)
    counted = count_flops(lambda i: built.update(batch, i)) / PERIOD
    costs = bound.phases(agent, head, normalizer == "spectral", BATCH, action_dim=2)
    assert sum(flops for flops, _ in costs.values()) == pytest.approx(counted, rel=1e-12)
