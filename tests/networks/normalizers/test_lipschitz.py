"""The product of the layers' norms bounds what a head makes of a small change of its input."""

from __future__ import annotations

import pytest
import torch

from drq_sn.networks.heads import MLPHead
from drq_sn.networks.normalizers import Spectral, Unnormalized
from drq_sn.networks.normalizers.power_iteration import tracked_layers


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
    head = normalizer.head("critic", head)
    for layer in tracked_layers(head).values():
        for _ in range(500):
            layer.power_iterate_()
    return head


def norms(head):
    """Largest singular value of what each layer multiplies by."""
    unit = [layer(torch.eye(layer.in_features, dtype=torch.float64)) - layer.bias for layer in head.layers]
    return [float(torch.linalg.svdvals(matrix.detach())[0]) for matrix in unit]


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize(
    "normalizer", [Unnormalized(), Spectral(), Spectral(layers="all"), Spectral(layers="all", minimum_sigma=3.0)]
)
def test_the_product_of_the_layers_norms_is_a_bound(normalizer, depth):
    head = head_of(normalizer, depth)
    bound = float(torch.tensor(norms(head)).prod())
    measured = measured_constant(head)
    assert measured <= bound * (1 + 1e-6)
    assert measured > 0.02 * bound  # or the bound would say nothing


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_with_every_layer_normalized_nothing_is_stretched(depth):
    assert measured_constant(head_of(Spectral(layers="all"), depth)) <= 1 + 1e-6
