"""What Gogianu et al. (2021, section 5.4) and Mehta et al. (2022) derive, by numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from drq_sn.networks.heads import MLPHead, ModernHead
from drq_sn.networks.normalizers import Spectral, Unnormalized
from drq_sn.networks.normalizers.power_iteration import tracked_layers
from drq_sn.networks.normalizers.spectral_schedulers import DivGrad, DivOut, MulEps, TrackedHead
from tests.networks.normalizers.oracles import settled

LAYERS = ["inner", "all", "last", [-2], [0, -2]]


def mlp(seed=0, biases=True, width=12):
    """A head in float64 whose layers' norms differ from 1."""
    torch.manual_seed(seed)
    head = MLPHead(5, 3, width, num_hidden_layers=3).double()
    with torch.no_grad():
        for scale, layer in zip((0.7, 3.0, 1.9, 0.4), head.layers, strict=True):
            layer.weight.mul_(scale)
            layer.bias.normal_() if biases else layer.bias.zero_()
    return head


def true_rho(head, layers):
    """Product of the largest singular values of the chosen layers, by a decomposition."""
    chosen = {"inner": head.layers[1:-1], "all": head.layers, "last": head.layers[-1:]}
    picked = chosen[layers] if isinstance(layers, str) else [head.layers[i] for i in layers]
    return float(torch.stack([torch.linalg.svdvals(layer.weight.detach())[0] for layer in picked]).prod())


def gradients(head, x, weights):
    head.zero_grad()
    (head(x) * weights).square().sum().backward()
    return {name.removeprefix("head."): p.grad.clone() for name, p in head.named_parameters()}


@pytest.mark.parametrize("layers", LAYERS)
def test_rho_is_the_product_of_the_chosen_layers_norms(layers):
    head = mlp()
    expected = true_rho(head, layers)
    assert float(settled(DivOut(layers=layers).head("critic", head)).rho()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("layers", LAYERS)
def test_divout_is_spectral_normalization_with_biases_scaled_along(layers):
    """Gogianu's eqs. 5-10: the same output, and the same gradient with respect to W and b, for any loss."""
    plain = mlp()
    divided = settled(DivOut(layers=layers).head("critic", copy.deepcopy(plain)))
    normalized = settled(Spectral(layers=layers, gradient_through_sigma=False).head("critic", copy.deepcopy(plain)))
    x, weights = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)

    class BiasesScaled(nn.Module):
        """W_i / rho_i a + b_i / (rho_1 ... rho_i), ReLU between: eq. 7 written out."""

        def __init__(self):
            super().__init__()
            self.head = normalized

        def forward(self, x):
            product = 1.0
            for i, layer in enumerate(self.head.layers):
                rho = layer.sigma().detach() if layer in tracked_layers(self.head).values() else 1.0
                product = product * rho
                x = x @ layer.weight.T / rho + layer.bias / product
                x = torch.relu(x) if i < len(self.head.layers) - 1 else x
            return x

    scaled = BiasesScaled()
    assert torch.allclose(divided(x), scaled(x), rtol=1e-10)
    ours, theirs = gradients(divided, x, weights), gradients(scaled, x, weights)
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-9, atol=1e-12), name
    assert not torch.allclose(divided(x), plain(x), rtol=1e-2)


@pytest.mark.parametrize("layers", LAYERS)
def test_without_biases_spectral_normalization_divides_gradients_by_the_product(layers):
    """Mehta's eqs. 13-18: z_hat = z / k, and dL/dW_i = J_i delta a_i-1 / k with delta = dL/dz_hat."""
    plain = mlp(biases=False)
    k = true_rho(plain, layers)
    normalized = settled(Spectral(layers=layers, gradient_through_sigma=False).head("critic", copy.deepcopy(plain)))
    x, slope = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    assert torch.allclose(normalized(x), plain(x) / k, rtol=1e-6)
    ours, theirs = {}, {}
    for head, found in ((normalized, ours), (plain, theirs)):
        head.zero_grad()
        head(x).backward(slope)  # the same delta for both
        found.update({name: p.grad for name, p in head.named_parameters() if name.endswith("weight")})
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name] / k, rtol=1e-6), name


def descend(normalizer, head, updates, eps):
    """Adam on a moving regression through `normalizer`; u and v are not iterated."""
    head = normalizer.head("critic", head)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2, eps=eps)
    generator = torch.Generator().manual_seed(5)
    for _ in range(updates):
        x, y = torch.randn(16, 8, dtype=torch.float64, generator=generator).split([5, 3], dim=1)
        optimizer.zero_grad()
        (head(x) - y).square().mean().backward()
        normalizer.step_(optimizer, head, [head])
    return {name.removeprefix("head."): p.detach() for name, p in head.named_parameters()}


@pytest.fixture
def constant_rho(monkeypatch):
    """A rho that does not move with the weights, as eq. 16 supposes."""
    monkeypatch.setattr(TrackedHead, "rho", lambda self: torch.tensor(37.0, dtype=torch.float64))


@pytest.mark.parametrize("eps", [3.125e-4, 1e-3, 1.0])
@pytest.mark.parametrize("normalizer", [DivGrad, MulEps])
def test_both_are_adam_with_a_larger_epsilon(constant_rho, normalizer, eps):
    """Eq. 16, with epsilon outside the root: the same weights after 50 steps of Adam."""
    ours, theirs = descend(normalizer(), mlp(), 50, eps), descend(Unnormalized(), mlp(), 50, 37.0 * eps)
    for name, weight in ours.items():
        assert torch.allclose(weight, theirs[name], rtol=1e-9, atol=1e-11), name
    plain = descend(Unnormalized(), mlp(), 50, eps)
    assert not torch.allclose(ours["layers.1.weight"], plain["layers.1.weight"], rtol=1e-3)


def test_muleps_multiplies_epsilon_by_the_rho_of_each_step():
    """Against Adam written out, with rho moving as the weights do."""
    head, normalizer = mlp(), MulEps()
    tracked = settled(normalizer.head("critic", head))
    optimizer = torch.optim.Adam(tracked.parameters(), 1e-2, eps=1e-3)
    p = tracked.head.layers[1].weight
    m, v, expected = torch.zeros_like(p), torch.zeros_like(p), p.detach().clone()
    for t in range(1, 20):
        x = torch.randn(16, 5, dtype=torch.float64)
        optimizer.zero_grad()
        tracked(x).square().mean().backward()
        rho, g = tracked.rho(), p.grad.clone()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected -= 1e-2 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + rho * 1e-3)
        normalizer.step_(optimizer, tracked, [tracked])
        assert torch.allclose(p, expected, rtol=1e-9, atol=1e-12)
        for layer in tracked_layers(tracked).values():
            layer.power_iterate_()
    assert torch.allclose(optimizer.state[p]["exp_avg"], m, rtol=1e-9)


def test_a_huge_rho_stops_muleps_and_harms_nothing(monkeypatch):
    monkeypatch.setattr(TrackedHead, "rho", lambda self: torch.tensor(1e20))
    head = MulEps().head("critic", mlp().float())
    before = copy.deepcopy(head.state_dict())
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    head(torch.ones(2, 5)).sum().backward()
    MulEps().step_(optimizer, head, [head])
    for name, p in head.named_parameters():
        assert torch.allclose(p, before[name], atol=1e-9)
        assert torch.allclose(optimizer.state[p]["exp_avg_sq"], 0.001 * p.grad**2)


def test_mul_eps_has_the_optimizer_state_of_adam(constant_rho):
    """A checkpoint goes from one to the other: the same entries, shapes and types after a step."""
    states = []
    for normalizer in (MulEps(), Unnormalized()):
        head = normalizer.head("critic", mlp())
        optimizer = torch.optim.Adam(head.parameters(), 1e-2, fused=True)
        head(torch.ones(2, 5, dtype=torch.float64)).sum().backward()
        normalizer.step_(optimizer, head, [head])
        states.append([{k: (v.shape, v.dtype) for k, v in s.items()} for s in optimizer.state_dict()["state"].values()])
    assert states[0] == states[1]


@pytest.mark.parametrize("normalizer", [DivGrad, MulEps])
def test_what_a_network_computes_and_sends_back_does_not_change(normalizer):
    plain = mlp()
    tracked = normalizer().head("critic", copy.deepcopy(plain))
    results = []
    for head in (plain, tracked):
        x = torch.ones(2, 5, dtype=torch.float64).requires_grad_()
        y = head(x)
        results.append((y.detach(), torch.autograd.grad(y.sum(), x)[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_what_heads_share_goes_with_their_geometric_mean(monkeypatch):
    """A trunk and two heads with rho 4 and 9: gradients by 6, 4 and 9; so does an encoder that learns through them."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, heads = nn.Linear(3, 5).double(), [mlp(1), mlp(2)]
            self.q1, self.q2 = (DivGrad().head("critic", head) for head in heads)

    network, encoder, rhos = Two(), nn.Linear(3, 3).double(), {}
    rhos.update({network.q1: 4.0, network.q2: 9.0})
    monkeypatch.setattr(TrackedHead, "rho", lambda self: torch.tensor(rhos[self], dtype=torch.float64))
    for module in (network, encoder):
        for p in module.parameters():
            p.grad = torch.ones_like(p)
        DivGrad().step_(torch.optim.SGD(module.parameters(), 0.0), module, [encoder, network])
    for module, rho in ((network.trunk, 6.0), (network.q1, 4.0), (network.q2, 9.0), (encoder, 6.0)):
        for p in module.parameters():
            assert torch.allclose(p.grad, torch.full_like(p, 1 / rho), rtol=1e-12)


def test_minimum_sigma_bounds_every_factor_of_rho():
    head = mlp()
    norms = [float(torch.linalg.svdvals(layer.weight.detach())[0]) for layer in head.layers[1:-1]]
    k = max(norms) * 1.5
    assert float(settled(DivOut(minimum_sigma=k).head("critic", head)).rho()) == pytest.approx(k * k)


def test_nothing_is_wrapped_where_no_layer_is_chosen():
    head = ModernHead(5, 1, 8, num_blocks=0)
    assert DivOut().head("critic", head) is head
    assert DivOut(networks=["critic"]).head("actor", mlp()).__class__ is MLPHead
