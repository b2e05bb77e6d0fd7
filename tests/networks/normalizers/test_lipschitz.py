"""With every layer normalized, a head is 1-Lipschitz."""

from __future__ import annotations

import pytest
import torch

from drq_sn.networks.heads import MLPHead
from drq_sn.networks.normalizers import Spectral
from tests.networks.normalizers.oracles import settled


def measured_constant(head, num_points=200):
    """The largest Jacobian norm at many points, and the largest stretch of the lines between them."""
    x = torch.randn(num_points, 6, dtype=torch.float64) * 3
    jacobians = torch.func.vmap(torch.func.jacrev(lambda p: head(p[None])[0]))(x)
    y = head(x).detach()
    stretch = torch.stack([(y - y.roll(k, 0)).norm(dim=1) / (x - x.roll(k, 0)).norm(dim=1) for k in range(1, 50)])
    return max(float(torch.linalg.svdvals(jacobians.detach())[:, 0].max()), float(stretch.max()))


def head_of(normalizer, depth):
    torch.manual_seed(0)
    head = MLPHead(6, 3, 32, num_hidden_layers=depth).double()
    with torch.no_grad():
        for layer in head.layers:
            layer.weight.mul_(2.0)
    return settled(normalizer.head("critic", head))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_head_with_every_layer_normalized_is_1_lipschitz(depth):
    assert measured_constant(head_of(Spectral(layers="all"), depth)) <= 1 + 1e-6
