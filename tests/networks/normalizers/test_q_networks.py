"""Normalizers of Q networks: convolutions and linear layers are counted together."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from drq_sn.networks.normalizers import DivGrad, DivOut, NormalizeAndProject, Spectral, WeightNorm
from drq_sn.networks.normalizers.nap import Projected
from drq_sn.networks.normalizers.power_iteration import tracked_layers
from drq_sn.networks.q_network import QNetwork
from drq_sn.validation import InvalidInput
from tests.networks.normalizers.oracles import convolution_matrix, record_relu_inputs, settled

OBS_SHAPE = (4, 10, 10)
LAYERS = ["convs.0", "convs.1", "hidden", "last"]


def q_network(seed=0):
    torch.manual_seed(seed)
    network = QNetwork(OBS_SHAPE, 6, [3, 3], 7).double()
    with torch.no_grad():
        for name, scale in zip(LAYERS, (1.5, 2.5, 3.0, 0.7), strict=True):
            layer = network.get_submodule(name)
            layer.weight.mul_(scale)
            layer.bias.normal_()
    return network


def observations(size=5):
    return torch.randint(0, 2, (size, *OBS_SHAPE), dtype=torch.uint8)


def operator_norm(layer, size):
    matrix = layer.weight.detach() if isinstance(layer, nn.Linear) else convolution_matrix(layer, (size, size))
    return float(torch.linalg.svdvals(matrix)[0])


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([-1], ["last"]),
        ([-2, -3], ["convs.1", "hidden"]),
        ([0], ["convs.0"]),
        ("inner", ["convs.1", "hidden"]),
        ("hidden", ["convs.0", "convs.1", "hidden"]),
        ("all", LAYERS),
    ],
)
def test_indices_run_over_all_layers(layers, names):
    assert list(tracked_layers(Spectral(layers=layers).head("critic", q_network()))) == names


def test_sigma_is_the_operator_norm_at_the_layers_own_size():
    plain = q_network()
    normalized = settled(Spectral(layers="all").head("critic", copy.deepcopy(plain)))
    for (name, layer), size in zip(tracked_layers(normalized).items(), (10, 8, 0, 0), strict=True):
        expected = operator_norm(plain.get_submodule(name), size)
        assert float(layer.sigma().detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("layers", [[-2], [-2, -3], "all"])
def test_divout_is_spectral_normalization_with_biases_scaled_along(layers):
    """Gogianu's eqs. 5-10 across convolutions: SN whose biases are divided by the rhos up to their layer."""
    plain, obs = q_network(), observations()
    divided = settled(DivOut(layers=layers).head("critic", copy.deepcopy(plain)))
    normalized = settled(Spectral(layers=layers, gradient_through_sigma=False).head("critic", copy.deepcopy(plain)))
    product, products = 1.0, {}
    for name in LAYERS:
        if name in tracked_layers(normalized):
            product = product * tracked_layers(normalized)[name].sigma().detach()
        products[name] = product
        with torch.no_grad():
            normalized.get_submodule(name).bias.div_(product)
    assert torch.allclose(divided(obs), normalized(obs), rtol=1e-9)
    for network in (divided, normalized):
        network(obs).square().sum().backward()
    for name in LAYERS:
        ours, theirs = divided.head.get_submodule(name), normalized.get_submodule(name)
        assert torch.allclose(ours.weight.grad, theirs.weight.grad, rtol=1e-8, atol=1e-12)
        assert torch.allclose(ours.bias.grad, theirs.bias.grad / products[name], rtol=1e-8, atol=1e-12)


def test_the_scale_of_a_normalized_weight_has_no_effect_unless_there_is_a_minimum():
    obs = observations()
    for minimum, same in ((None, True), (1.0, False)):
        network = settled(Spectral(layers=[-2], minimum_sigma=minimum).head("critic", q_network()))
        before = network(obs)
        with torch.no_grad():
            network.hidden.weight.mul_(0.01)  # sigma < 1
        assert torch.allclose(network(obs), before, rtol=1e-9) == same


@pytest.mark.parametrize("through", [True, False, "linear"])
def test_the_gradient_flows_through_the_sigmas_that_it_should(through):
    """Where it does, it is orthogonal to a weight whose scale has no effect."""
    network = settled(Spectral(layers=[-2, -3], gradient_through_sigma=through).head("critic", q_network()))
    network(observations()).square().sum().backward()
    layers = network.hidden, network.convs[1]
    hidden, conv = (float((layer.weight.detach() * layer.weight.grad).sum()) for layer in layers)
    assert (abs(hidden) < 1e-8) == (through is not False)
    assert (abs(conv) < 1e-8) == (through is True)


def test_other_values_for_the_gradient_are_refused():
    with pytest.raises(InvalidInput, match="must be true, false or linear, got 'conv'"):
        Spectral(gradient_through_sigma="conv")


def test_the_published_div_grad_divides_each_chosen_weight_gradient_by_its_own_sigma():
    normalizer = DivGrad(layers=[-2, -3], minimum_sigma=1.0, scope="layer")
    network = settled(normalizer.head("critic", q_network()))
    network(observations()).square().sum().backward()
    before = {name: p.grad.clone() for name, p in network.named_parameters()}
    normalizer.step_(torch.optim.SGD(network.parameters(), 0.0), network, [network])
    layers = tracked_layers(network)
    divisors = {f"{name}.weight": float(layer.sigma().detach()) for name, layer in layers.items()}
    assert len(divisors) == 2
    for name, p in network.named_parameters():
        assert torch.allclose(p.grad, before[name] / max(1.0, divisors.get(name, 1.0)), rtol=1e-12)


def test_normalize_and_project_normalizes_maps_as_a_whole_and_keeps_the_output_layer(monkeypatch):
    plain = q_network().float()
    norms = [plain.get_submodule(name).weight.detach().norm() for name in LAYERS[:-1]]
    normalizer = NormalizeAndProject()
    network, seen = normalizer.head("critic", plain), record_relu_inputs(monkeypatch)
    network(observations())
    assert [tuple(x.shape[1:]) for x in seen] == [(3, 8, 8), (3, 6, 6), (7,)]
    for x in seen:  # over channels, height and width together
        assert torch.allclose(x.flatten(1).mean(1), torch.zeros(len(x)), atol=1e-5)
        assert torch.allclose(x.flatten(1).var(1, unbiased=False), torch.ones(len(x)), atol=1e-2)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        network(observations()).square().mean().backward()
        normalizer.step_(optimizer, network, [network])
    projected = [layer for layer in network.modules() if isinstance(layer, Projected)]
    assert [layer.bias for layer in projected] == [None] * 3
    for layer, norm in zip(projected, norms, strict=True):
        assert torch.allclose(layer.weight.detach().norm(), norm, rtol=1e-5)
    assert not isinstance(network.last, Projected)


def test_a_normalizer_of_linear_layers_refuses_convolutions():
    assert WeightNorm(layers=[-2]).head("critic", q_network())(observations()).shape == (5, 6)
    with pytest.raises(InvalidInput, match=r"normalizer.layers must be linear layers for WeightNorm, got convs\.1"):
        WeightNorm(layers=[-3]).head("critic", q_network())
