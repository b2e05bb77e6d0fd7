"""Initial weights of whole agents: orthogonal, with ReLU gain in convolutions; biases zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.mark.parametrize("name", ["agent=drq", "agent=drqv2"])
def test_every_layer_of_an_agent_starts_orthogonal(agent_of, name):
    agent, seen = agent_of(name), set()
    for layer in agent.networks.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            rows = layer.weight.detach().flatten(1)
            gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
            gain = 2.0 if isinstance(layer, nn.Conv2d) else 1.0  # squared
            assert torch.allclose(gram, gain * torch.eye(len(gram)), atol=1e-4)
            assert not layer.bias.any()
            seen.add(nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear)
    assert seen == {nn.Conv2d, nn.Linear}
