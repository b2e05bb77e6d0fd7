"""What profiles and benchmarks compute on."""

import torch

from drq_sn.cli.workload import build_warm_agent
from drq_sn.envs import make_env
from drq_sn.networks.normalizers.spectral import TrackedLinear


def test_a_measured_update_iterates_as_often_as_most_updates_of_a_run(configure, batch, monkeypatch):
    iterations = []
    agent = build_warm_agent(
        configure("agent=drqv2", "head=mlp2"), make_env("synthetic_point", image_size=24), torch.device("cpu")
    )
    monkeypatch.setattr(
        TrackedLinear, "power_iterate_", lambda layer, num_iterations: iterations.append(num_iterations)
    )
    agent.update(batch, step=0)
    assert max(iterations) == 2
