"""The norm of a convolution is that of its matrix, written out, not of its kernel."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drq_sn.networks.encoders import ConvEncoder
from drq_sn.networks.normalizers import Spectral
from drq_sn.networks.normalizers.power_iteration import Strength, tracked_layers
from drq_sn.networks.normalizers.spectral import SpectralConv2d
from tests.networks.normalizers.oracles import convolution_matrix


@pytest.mark.parametrize(("stride", "size"), [(1, (6, 6)), (2, (7, 7)), (2, (8, 7)), (1, (5, 9))])
def test_sigma_is_the_largest_singular_value_of_the_explicit_matrix(stride, size):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, stride).double()
    true = float(torch.linalg.svdvals(convolution_matrix(conv, size))[0])
    layer = SpectralConv2d(conv, size, Strength(num_iterations=300), torch.Generator().manual_seed(1))
    layer.power_iterate_()
    assert float(layer.sigma().detach()) == pytest.approx(true, rel=1e-6)
    kernel = float(torch.linalg.svdvals(conv.weight.detach().flatten(1))[0])
    assert abs(kernel / true - 1) > 0.05  # the reshaped kernel's norm is another number


def test_the_normalized_convolution_has_norm_one_and_keeps_its_bias():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, 2).double()
    layer = SpectralConv2d(copy.deepcopy(conv), (9, 9), Strength(num_iterations=300), torch.Generator().manual_seed(1))
    layer.power_iterate_()
    units = torch.eye(2 * 81, dtype=torch.float64).view(-1, 2, 9, 9)
    effective = (layer(units) - layer(torch.zeros_like(units))).flatten(1)
    assert float(torch.linalg.svdvals(effective.detach())[0]) == pytest.approx(1.0, rel=1e-6)
    assert torch.equal(layer(torch.zeros(1, 2, 9, 9, dtype=torch.float64))[0, :, 0, 0], conv.bias)


@pytest.mark.parametrize("through", [True, False])
def test_the_gradient_matches_finite_differences_or_stops_at_sigma(through):
    torch.manual_seed(0)
    layer = SpectralConv2d(
        nn.Conv2d(2, 3, 3).double(), (5, 5), Strength(gradient_through_sigma=through), torch.Generator().manual_seed(1)
    )
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    if through:
        call = lambda w: torch.func.functional_call(layer, {"weight": w}, (x,))  # noqa: E731
        assert torch.autograd.gradcheck(call, (layer.weight,))
        return
    layer(x).sum().backward()
    plain = torch.autograd.grad(F.conv2d(x, layer.weight).sum(), layer.weight)[0]
    assert torch.allclose(layer.weight.grad, plain / layer.sigma().detach())


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("all", [0, 1, 2, 3]), ("inner", [1, 2]), ("none", []), ([0, -1], [0, 3])],
)
def test_the_encoders_convolutions_are_chosen_by_name_or_index(layers, expected):
    encoder = ConvEncoder((9, 24, 24), num_filters=4)
    sizes = [(24, 24), (11, 11), (9, 9), (7, 7)]
    Spectral(conv_layers=layers).encoder_(encoder)
    found = tracked_layers(encoder)
    assert list(found) == [f"convs.{i}" for i in expected]
    assert [tuple(layer.v.shape[2:]) for layer in found.values()] == [sizes[i] for i in expected]


def test_power_iteration_alone_moves_its_vectors():
    layer = SpectralConv2d(nn.Conv2d(2, 3, 3), (5, 5), Strength(), torch.Generator().manual_seed(1))
    u = layer.u.clone()
    layer(torch.randn(2, 2, 5, 5)).sum().backward()
    assert torch.equal(layer.u, u)
    with torch.no_grad():
        layer.weight.add_(torch.randn_like(layer.weight))
    layer.power_iterate_()
    assert not torch.equal(layer.u, u)


def test_the_trunk_of_a_network_that_is_not_chosen_stays(agent_of):
    tracked = tracked_layers(agent_of("normalizer.networks=[critic]", "normalizer.trunk=true").networks)
    assert "critic.trunk.linear" in tracked
    assert not any(name.startswith("actor") for name in tracked)


@pytest.mark.parametrize("name", [pytest.param("agent=drq", marks=pytest.mark.slow), "agent=drqv2"])
def test_an_agent_trains_with_normalized_convolutions_and_trunks(agent_of, batch, name):
    agent = agent_of(name, "head=mlp2", "normalizer.conv_layers=all", "normalizer.trunk=true")
    for step in range(0, 20, 2):
        metrics = agent.update(batch, step)
    assert all(bool(torch.isfinite(m)) for m in metrics.values())
    tracked = tracked_layers(agent.networks)
    assert {"encoder.convs.0", "encoder.convs.3", "actor.trunk.linear", "critic.trunk.linear"} <= set(tracked)
    for layer_name, layer in tracked_layers(agent.encoder).items():
        conv = layer.double()
        true = float(torch.linalg.svdvals(convolution_matrix(conv, tuple(layer.v.shape[2:])))[0])
        assert float(layer.sigma().detach()) == pytest.approx(true, rel=0.1), layer_name
