import pytest
import torch
from torch import nn

from drq_sn.checks import InvalidInput
from drq_sn.networks.heads import MLPHead, ModernHead, ResidualBlock


def test_mlp_equals_a_plain_sequence():
    head = MLPHead(7, 2, width=16, num_hidden_layers=4)
    steps = [step for layer in head.layers for step in (layer, nn.ReLU())][:-1]
    x = torch.randn(5, 7)
    assert torch.allclose(head(x), nn.Sequential(*steps)(x))
    assert [tuple(layer.weight.shape) for layer in head.layers] == [(16, 7), (16, 16), (16, 16), (16, 16), (2, 16)]


def test_residual_block_by_the_formula():
    block, x = ResidualBlock(8, expansion=2), torch.randn(5, 8)
    normal = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
    expected = x + torch.relu(normal @ block.expand.weight.T + block.expand.bias) @ block.contract.weight.T + block.contract.bias
    assert torch.allclose(block(x), expected, atol=1e-5)
    assert block.expand.weight.shape == (16, 8)


def test_modern_has_no_final_layer_norm():
    head = ModernHead(7, 2, width=8, num_blocks=0)
    x = torch.randn(5, 7)
    assert torch.allclose(head(x), head.last(torch.relu(head.first(x))))
    assert sum(isinstance(m, nn.LayerNorm) for m in ModernHead(7, 2, width=8, num_blocks=3).modules()) == 3


@pytest.mark.parametrize("bad", [{"width": 0}, {"num_blocks": -1}, {"expansion": 0}, {"width": 3.5}])
def test_wrong_sizes_are_named(bad):
    (name,) = bad
    with pytest.raises(InvalidInput, match=f"head.{name}="):
        ModernHead(7, 2, **bad)
