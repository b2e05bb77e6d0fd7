"""Spectral normalization against a singular value decomposition."""

import copy

import pytest
import torch
from torch import nn

from drq_sn.networks.heads import BroNetHead, D2RLHead, LayerNormMLPHead, MLPHead, ModernHead, SimBaHead
from drq_sn.networks.initializers import orthogonal_init_
from drq_sn.networks.normalizers import Spectral, Unnormalized, WeightNorm
from drq_sn.networks.normalizers.power_iteration import (
    Strength,
    TrackedLinear,
    iterate_together_,
    power_iterate_,
    tracked_layers,
    unit,
)
from drq_sn.networks.normalizers.spectral import SpectralConv2d, SpectralLinear
from drq_sn.validation import InvalidInput


def true_sigma(weight):
    return float(torch.linalg.svdvals(weight.detach())[0])


def spectral_linear(in_dim=24, out_dim=16, **options):
    torch.manual_seed(0)
    return SpectralLinear(nn.Linear(in_dim, out_dim), Strength(**options), torch.Generator().manual_seed(1))


def test_the_normalized_weight_has_norm_one():
    layer = spectral_linear()
    for _ in range(200):
        layer.power_iterate_()
    assert float(layer.sigma().detach()) == pytest.approx(true_sigma(layer.weight), rel=1e-4)
    effective = layer(torch.eye(24)) - layer.bias
    assert true_sigma(effective) == pytest.approx(1.0, rel=1e-4)


def test_u_and_v_follow_a_moving_weight():
    layer = spectral_linear()
    for _ in range(300):
        with torch.no_grad():
            layer.weight += 0.01 * torch.randn_like(layer.weight)
        layer.power_iterate_()
    assert float(layer.sigma().detach()) == pytest.approx(true_sigma(layer.weight), rel=0.02)


def test_only_power_iteration_moves_u_and_v():
    layer = spectral_linear()
    u, v = layer.u.clone(), layer.v.clone()
    layer.train()
    layer(torch.randn(3, 24)).sum().backward()
    layer.eval()
    layer(torch.randn(3, 24))
    _ = layer.weight, layer.sigma(), copy.deepcopy(layer)
    assert torch.equal(layer.u, u)
    assert torch.equal(layer.v, v)
    layer.power_iterate_()
    assert not torch.equal(layer.u, u)


@pytest.mark.parametrize("through", [True, False])
def test_the_gradient_by_miyatos_formula(through):
    """dL/dW of W / sigma with constant u, v: (G - <G, W / sigma> u v^T) / sigma; G / sigma if stopped."""
    layer = spectral_linear(gradient_through_sigma=through).double()
    x, weights = torch.randn(5, 24, dtype=torch.float64), torch.randn(5, 16, dtype=torch.float64)
    (layer(x) * weights).sum().backward()
    g = weights.T @ x  # gradient with respect to the normalized weight
    sigma = float(layer.u @ layer.weight.detach() @ layer.v)
    expected = g / sigma
    if through:
        inner = (g * layer.weight.detach() / sigma).sum()
        expected = (g - inner * torch.outer(layer.u, layer.v)) / sigma
    assert torch.allclose(layer.weight.grad, expected, atol=1e-12)
    assert layer.u.grad is None
    assert not layer.u.requires_grad


def test_a_sigma_below_the_minimum_is_replaced_by_it():
    layer = spectral_linear(minimum_sigma=100.0)
    x = torch.randn(3, 24)
    assert torch.allclose(layer(x), x @ layer.weight.T / 100.0 + layer.bias, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("inner", ["blocks.0.expand", "blocks.0.contract", "blocks.1.expand", "blocks.1.contract"]),
        ("last", ["last"]),
        ("all", ["first", "blocks.0.expand", "blocks.0.contract", "blocks.1.expand", "blocks.1.contract", "last"]),
        ([-2], ["blocks.1.contract"]),
        ([-2, -3, 4], ["blocks.1.expand", "blocks.1.contract"]),
        ([0], ["first"]),
    ],
)
def test_layers_are_chosen_by_name_or_index(layers, expected):
    head = Spectral(layers=layers).head("critic", ModernHead(7, 2, width=8, num_blocks=2))
    assert list(tracked_layers(head)) == expected


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (D2RLHead(7, 1, 8, 4), ["hidden.0", "hidden.1", "hidden.2"]),
        (SimBaHead(7, 1, 8, 1), ["blocks.0.expand", "blocks.0.contract"]),
        (LayerNormMLPHead(7, 1, 8, 2), ["hidden.1.linear"]),
        (BroNetHead(7, 1, 8, 1), ["blocks.0.first.linear", "blocks.0.second.linear"]),
    ],
)
def test_inner_layers_of_the_heads_of_other_papers(head, names):
    assert list(tracked_layers(Spectral().head("critic", head))) == names
    assert torch.isfinite(head(torch.randn(3, 7))).all()


def test_the_initial_weights_survive():
    """The library's version silently loses an init that comes after it; ours takes the initialized layer over."""
    head = ModernHead(7, 2, width=8, num_blocks=1)
    orthogonal_init_(head)
    before = {name: value.clone() for name, value in head.named_parameters()}
    Spectral().head("critic", head)
    assert {n: v.tolist() for n, v in head.named_parameters()} == {n: v.tolist() for n, v in before.items()}
    for layer in tracked_layers(head).values():
        assert float(layer.sigma().detach()) == pytest.approx(1.0, rel=1e-4)  # orthogonal


def test_u_and_v_are_saved_and_restored():
    source, target = (Spectral().head("critic", ModernHead(7, 2, width=8, num_blocks=1)) for _ in range(2))
    target.load_state_dict(source.state_dict())
    for name, layer in tracked_layers(source).items():
        assert torch.equal(tracked_layers(target)[name].u, layer.u)
    x = torch.randn(3, 7)
    assert torch.equal(source(x), target(x))


def test_none_changes_nothing():
    head = MLPHead(7, 1, 8, 2)
    assert Unnormalized().head("critic", head) is head
    assert tracked_layers(head) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "iner"}, "did you mean 'inner'"),
        ({"minimum_sigma": 0}, "minimum_sigma must be a number > 0, got 0"),
        ({"layers": [True]}, r"layers must be .*, got \[True\]"),
        ({"networks": "actor"}, "networks must be a list of actor, critic or both"),
        ({"networks": ["acter"]}, "did you mean 'actor'"),
        ({"conv_layers": "al"}, "unknown normalizer.conv_layers 'al'"),
        ({"trunk": 1}, "normalizer.trunk must be true or false, got 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InvalidInput, match=message):
        Spectral(**options)


def test_an_index_outside_the_head_is_named():
    with pytest.raises(InvalidInput, match=r"must be indices of 3 layers, got \[7\]"):
        Spectral(layers=[7]).head("critic", MLPHead(7, 1, 8, 2))


def test_weight_norm_starts_as_the_layer_it_takes_over_and_keeps_lengths_apart():
    torch.manual_seed(0)
    head = MLPHead(7, 2, 8, 3)
    x, before = torch.randn(4, 7), copy.deepcopy(head)
    normalized = WeightNorm().head("critic", head)
    assert torch.allclose(normalized(x), before(x), atol=1e-6)
    layer = normalized.layers[1]
    with torch.no_grad():
        layer.weight.mul_(5.0)  # no row's length matters
    assert torch.allclose(normalized(x), before(x), atol=1e-5)
    with torch.no_grad():
        layer.gain.mul_(2.0)
    row = 2 * before.layers[1].weight[3]
    assert torch.allclose(layer.composed_weight[3], row, atol=1e-5)


@pytest.mark.parametrize("network", ["actor", "critic"])
def test_only_the_chosen_networks_heads_are_normalized(network):
    normalizer = Spectral(networks=[network])
    for name in ("actor", "critic"):
        assert bool(tracked_layers(normalizer.head(name, MLPHead(7, 2, 8, 3)))) == (name == network)


@pytest.mark.parametrize("iterate_", [power_iterate_, iterate_together_])
def test_layers_iterated_together_equal_layers_iterated_alone(iterate_):
    """Linear layers of equal and of different shapes, and convolutions, with different factors."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    layers = [TrackedLinear(nn.Linear(a, b), Strength(), generator) for a, b in [(8, 5), (5, 8), (8, 5), (8, 8)]]
    layers.append(TrackedLinear(nn.Linear(8, 5), Strength(num_iterations=2), generator))
    layers.append(SpectralConv2d(nn.Conv2d(2, 3, 3, 2), (6, 7), Strength(), generator))
    with torch.no_grad():
        for layer in layers:
            layer.weight.add_(torch.randn_like(layer.weight))
    expected = copy.deepcopy(layers)
    for layer in expected:
        for _ in range(2 * layer.strength.num_iterations):
            layer.v.copy_(unit(layer.transposed_product(layer.u)))
            layer.u.copy_(unit(layer.product(layer.v)))
    iterate_(layers, 2)
    for layer, alone in zip(layers, expected, strict=True):
        torch.testing.assert_close((layer.u, layer.v), (alone.u, alone.v))
