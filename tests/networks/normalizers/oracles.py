"""Helpers of the tests of normalizers: explicit matrices, converged power iteration, inputs of ReLUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from drq_sn.networks.normalizers.power_iteration import tracked_layers


def convolution_matrix(conv, size):
    """The explicit matrix at inputs of (H, W) `size`, column by column: the convolution of each unit vector."""
    count = conv.in_channels * size[0] * size[1]
    units = torch.eye(count, dtype=conv.weight.dtype).view(count, conv.in_channels, *size)
    return F.conv2d(units, conv.weight.detach(), None, conv.stride).flatten(1).T


def settled(network):
    """`network` after power iteration has converged."""
    for layer in tracked_layers(network).values():
        layer.power_iterate_(1000)
    return network


def record_relu_inputs(monkeypatch):
    """The list to which every later call of `torch.relu` appends its input."""
    inputs, relu = [], torch.relu
    monkeypatch.setattr(torch, "relu", lambda x: (inputs.append(x), relu(x))[1])
    return inputs
