"""Normalize-and-Project: norms that stay, LayerNorms where they belong, biases that are not redundant."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drq_sn.networks.heads import BroNetHead, D2RLHead, LayerNormMLPHead, MLPHead, ModernHead, SimBaHead
from drq_sn.networks.normalizers.nap import NormalizeAndProject, ProjectedLinear
from drq_sn.validation import InvalidInput
from tests.networks.normalizers.oracles import record_relu_inputs

HEADS = [MLPHead, LayerNormMLPHead, ModernHead, SimBaHead, BroNetHead, D2RLHead]


def projected(head):
    return {name: layer for name, layer in head.named_modules() if isinstance(layer, ProjectedLinear)}


def train(head, normalizer, updates=30, lr=1e-2):
    optimizer = torch.optim.Adam(head.parameters(), lr)
    for _ in range(updates):
        optimizer.zero_grad()
        (head(torch.randn(16, 7)) - 1.0).square().mean().backward()
        normalizer.step_(optimizer, head, [head])


@pytest.mark.parametrize("kind", HEADS)
def test_every_projected_norm_stays_while_the_weights_move(kind):
    torch.manual_seed(0)
    normalizer = NormalizeAndProject()
    head = normalizer.head("critic", kind(7, 2, width=16))
    before = {name: layer.weight.detach().clone() for name, layer in projected(head).items()}
    train(head, normalizer)
    for name, layer in projected(head).items():
        assert float(layer.weight.detach().norm() / before[name].norm()) == pytest.approx(1.0, abs=1e-6)
        assert float((layer.weight.detach() - before[name]).norm()) > 0.01


@pytest.mark.parametrize("kind", HEADS)
def test_all_hidden_weights_are_projected_and_the_outputs_is_not(kind):
    head = kind(7, 2, width=16)
    num_linear = sum(isinstance(m, nn.Linear) for m in head.modules())
    head = NormalizeAndProject().head("critic", head)
    linears = [m for m in head.modules() if isinstance(m, nn.Linear)]
    assert len(linears) == num_linear
    assert [isinstance(m, ProjectedLinear) for m in linears] == [True] * (num_linear - 1) + [False]


@pytest.mark.parametrize("kind", HEADS)
def test_every_relu_sees_normalized_inputs(kind, monkeypatch):
    """Mean 0 and variance 1 over the units, while LayerNorm's gains are 1 and its biases 0."""
    torch.manual_seed(0)
    head, seen = NormalizeAndProject().head("critic", kind(7, 2, width=16)), record_relu_inputs(monkeypatch)
    head(torch.randn(5, 7))
    assert seen
    for x in seen:
        assert torch.allclose(x.mean(-1), torch.zeros(5), atol=1e-5)
        assert torch.allclose(x.var(-1, unbiased=False), torch.ones(5), atol=1e-2)


def test_which_biases_and_layer_norms_a_residual_block_keeps():
    """W1 meets a ReLU: no bias, a LayerNorm of its own. W2 ends in the sum: it keeps its bias and gets none."""
    head = NormalizeAndProject().head("critic", ModernHead(7, 2, width=8, num_blocks=1))
    block = head.blocks[0]
    assert isinstance(block.expand, nn.Sequential)
    assert block.expand[0].bias is None
    assert isinstance(block.expand[1], nn.LayerNorm)
    assert isinstance(block.contract, ProjectedLinear)
    assert block.contract.bias is not None
    assert isinstance(block.norm, nn.LayerNorm)
    assert head.first[0].bias is None


def test_a_layer_that_also_enters_a_residual_sum_keeps_its_bias():
    head = NormalizeAndProject().head("critic", SimBaHead(7, 2, width=8, num_blocks=1))
    assert head.first.bias is not None


def test_a_layer_norm_that_is_there_is_not_doubled():
    head = LayerNormMLPHead(7, 2, width=8)
    num_norms = sum(isinstance(m, nn.LayerNorm) for m in head.modules())
    head = NormalizeAndProject().head("critic", head)
    assert sum(isinstance(m, nn.LayerNorm) for m in head.modules()) == num_norms
    assert all(layer.bias is None for layer in projected(head).values())


def test_the_function_does_not_see_the_scale_of_a_normalized_weight():
    head = NormalizeAndProject().head("critic", MLPHead(7, 2, width=16))
    x = torch.randn(5, 7)
    before = head(x)
    with torch.no_grad():
        for layer in projected(head).values():
            layer.weight.mul_(3.0)
    assert torch.allclose(head(x), before, atol=1e-4)


def test_a_head_that_cannot_be_traced_is_named():
    class Branching(MLPHead):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(InvalidInput, match="Branching cannot be traced"):
        NormalizeAndProject().head("critic", Branching(7, 2, width=8))


def test_layer_norms_have_the_size_of_a_strided_convolutions_output():
    class Network(nn.Module):
        obs_shape = (3, 9, 8)

        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4 * 4 * 3, 2)

        def forward(self, x):
            return self.last(torch.relu(self.conv(x)).flatten(1))

    network = NormalizeAndProject().head("critic", Network())
    assert network(torch.rand(5, 3, 9, 8)).shape == (5, 2)
