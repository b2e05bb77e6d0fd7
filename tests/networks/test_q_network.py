"""Q networks: their sizes by the paper's table, their initialization, their layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drq_sn.networks.normalizers.base import layers_of
from drq_sn.networks.q_network import QNetwork
from drq_sn.validation import InvalidInput

BREAKOUT = (4, 10, 10)


@pytest.mark.parametrize(
    ("channels", "hidden", "expected"),
    [
        ([24], 128, [888, 196_736, 774]),
        ([24, 24], 128, [888, 5208, 110_720, 774]),
        ([24, 24, 24], 128, [888, 5208, 5208, 49_280, 774]),
    ],
)
def test_parameters_per_layer(channels, hidden, expected):
    network = QNetwork(BREAKOUT, 6, channels, hidden)
    layers = [layer for _, layer in layers_of(network, nn.Conv2d, nn.Linear)]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == expected


def test_it_computes_what_its_layers_say():
    network = QNetwork(BREAKOUT, 12, [3, 5], 7)
    obs = torch.randint(0, 2, (2, *BREAKOUT), dtype=torch.uint8)
    x = obs.float()  # not scaled
    for conv in network.convs:
        x = conv(x).clamp_min(0)
    expected = network.last(network.hidden(x.reshape(2, -1)).clamp_min(0))
    assert torch.allclose(network(obs), expected, atol=1e-6)
    assert expected.shape == (2, 12)


def test_weights_start_xavier_uniform_and_biases_at_zero():
    network = QNetwork(BREAKOUT, 6, [24], 128)
    for layer in (network.convs[0], network.hidden, network.last):
        fan_in, fan_out = layer.weight[0].numel(), layer.weight[:, 0].numel()
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert not layer.bias.any()


@pytest.mark.parametrize("channels", [[], [8] * 5, "8", [0], [2.5], [10**12, 10**12]])
def test_wrong_channels_are_refused(channels):
    with pytest.raises(InvalidInput, match=r"agent\.q_network\.channels must be"):
        QNetwork(BREAKOUT, 6, channels, 16)
