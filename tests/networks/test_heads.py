"""Every head by its formula, in plain matrix products, and what all of them have in common."""

import functools

import pytest
import torch
from torch import nn

from drq_sn.networks.heads import (
    BroNetHead,
    D2RLHead,
    Head,
    LayerNormMLPHead,
    MLPHead,
    ModernHead,
    SimBaHead,
)
from drq_sn.networks.normalizers import Spectral
from drq_sn.networks.normalizers.spectral import SpectralLinear
from drq_sn.validation import InvalidInput

# class, options, linear layers, and parameters of head(7, 2, width=8) counted by hand
HEADS = [
    (MLPHead, {"num_hidden_layers": 3}, 4, (7 * 8 + 8) + 2 * (8 * 8 + 8) + (8 * 2 + 2)),
    (ModernHead, {"num_blocks": 2}, 6, (7 * 8 + 8) + 2 * (16 + 8 * 16 + 16 + 16 * 8 + 8) + (8 * 2 + 2)),
    (LayerNormMLPHead, {"num_hidden_layers": 2}, 3, (7 * 8 + 8 + 16) + (8 * 8 + 8 + 16) + (8 * 2 + 2)),
    (D2RLHead, {"num_hidden_layers": 4}, 5, (7 * 8 + 8) + 3 * ((8 + 7) * 8 + 8) + (8 * 2 + 2)),
    (SimBaHead, {"num_blocks": 2}, 6, (7 * 8 + 8) + 2 * (16 + 8 * 32 + 32 + 32 * 8 + 8) + 16 + (8 * 2 + 2)),
    (BroNetHead, {"num_blocks": 2}, 6, (7 * 8 + 8 + 16) + 2 * 2 * (8 * 8 + 8 + 16) + (8 * 2 + 2)),
]
BUILD = {cls.__name__: functools.partial(cls, 7, 2, width=8, **options) for cls, options, _, _ in HEADS}


@pytest.fixture(params=BUILD)
def build(request):
    """`build(pnorm=...)` -> one of the heads, with weights, biases, scales and shifts that are all at random."""

    def make(**options):
        torch.manual_seed(0)
        head = BUILD[request.param](**options)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.normal_()
        return head

    return make


def randomized(module):
    """`module` in float64, where every parameter, those of LayerNorm too, is at random."""
    for parameter in module.double().parameters():
        nn.init.normal_(parameter)
    return module


def inputs(size):
    return torch.randn(5, size, dtype=torch.float64)


def affine(layer, x):
    return x @ layer.weight.T + layer.bias


def layer_norm(norm, x):
    centered = x - x.mean(-1, keepdim=True)
    return centered / torch.sqrt((centered**2).mean(-1, keepdim=True) + 1e-5) * norm.weight + norm.bias


def relu(x):
    return x * (x > 0)


def test_mlp_equals_a_plain_sequence():
    head = MLPHead(7, 2, width=16, num_hidden_layers=4)
    steps = [step for layer in head.layers for step in (layer, nn.ReLU())][:-1]
    x = torch.randn(5, 7)
    assert torch.equal(head(x), nn.Sequential(*steps)(x))
    assert [tuple(layer.weight.shape) for layer in head.layers] == [(16, 7), (16, 16), (16, 16), (16, 16), (2, 16)]


def test_modern_has_no_final_layer_norm():
    head = ModernHead(7, 2, width=8, num_blocks=0)
    x = torch.randn(5, 7)
    assert torch.equal(head(x), head.last(torch.relu(head.first(x))))
    assert sum(isinstance(m, nn.LayerNorm) for m in ModernHead(7, 2, width=8, num_blocks=3).modules()) == 3


def test_layer_norm_mlp_by_the_formula():
    head, x = randomized(LayerNormMLPHead(7, 2, width=8, num_hidden_layers=2)), inputs(7)
    first, second = head.hidden
    hidden = relu(layer_norm(first.norm, affine(first.linear, x)))
    hidden = relu(layer_norm(second.norm, affine(second.linear, hidden)))
    torch.testing.assert_close(head(x), affine(head.last, hidden))


def test_d2rl_by_the_formula():
    head, x = randomized(D2RLHead(7, 2, width=8, num_hidden_layers=3)), inputs(7)
    hidden = relu(affine(head.first, x))
    for layer in head.hidden:
        from_hidden, from_input = layer.weight[:, :8], layer.weight[:, 8:]
        hidden = relu(hidden @ from_hidden.T + x @ from_input.T + layer.bias)
    torch.testing.assert_close(head(x), affine(head.last, hidden))
    shapes = [tuple(layer.weight.shape) for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(8, 7), (8, 15), (8, 15), (2, 8)]


def test_simba_by_the_formula():
    head, x = randomized(SimBaHead(7, 2, width=8, num_blocks=2)), inputs(7)
    hidden = affine(head.first, x)
    for block in head.blocks:
        hidden = hidden + affine(block.contract, relu(affine(block.expand, layer_norm(block.norm, hidden))))
        assert block.expand.weight.shape == (32, 8)
    torch.testing.assert_close(head(x), affine(head.last, layer_norm(head.norm, hidden)))


def test_bronet_by_the_formula():
    head, x = randomized(BroNetHead(7, 2, width=8, num_blocks=2)), inputs(7)
    hidden = relu(layer_norm(head.first.norm, affine(head.first.linear, x)))
    for block in head.blocks:
        inside = relu(layer_norm(block.first.norm, affine(block.first.linear, hidden)))
        hidden = hidden + layer_norm(block.second.norm, affine(block.second.linear, inside))
    torch.testing.assert_close(head(x), affine(head.last, hidden))


@pytest.mark.parametrize(("cls", "options", "num_linear", "num_parameters"), HEADS)
def test_layers_and_parameters_counted_by_hand(cls, options, num_linear, num_parameters):
    head = cls(7, 2, width=8, **options)
    assert sum(isinstance(layer, nn.Linear) for layer in head.modules()) == num_linear
    assert sum(parameter.numel() for parameter in head.parameters()) == num_parameters
    assert head(torch.randn(5, 7)).shape == (5, 2)
    assert head(torch.randn(1, 7)).shape == (1, 2)


def test_all_heads_are_tested():
    assert {cls.__name__ for cls in Head.__subclasses__()} == set(BUILD)


def test_names_that_saved_weights_have():
    assert list(MLPHead(7, 2, 8, 1).state_dict()) == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
    ]
    modern = dict.fromkeys(name.rpartition(".")[0] for name in ModernHead(7, 2, 8, 1).state_dict())
    assert list(modern) == ["first", "blocks.0.norm", "blocks.0.expand", "blocks.0.contract", "last"]


def test_linear_layers_stand_in_the_order_of_their_use(build):
    head, used = build(), []
    linears = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    for layer in linears:
        layer.register_forward_hook(lambda module, *_: used.append(module))
    head(torch.randn(5, 7))
    assert used == linears
    assert used[-1] is head.last


def test_the_last_layer_is_the_normalized_one_where_a_normalizer_took_it_over(build):
    head = build(pnorm=True)
    Spectral(layers="last").head("critic", head)
    assert isinstance(head.last, SpectralLinear)
    assert torch.isfinite(head(torch.randn(5, 7))).all()


@pytest.mark.parametrize("pnorm", [False, True])
def test_traceable(build, pnorm):
    head, x = build(pnorm=pnorm), torch.randn(5, 7)
    traced = torch.fx.symbolic_trace(head)
    assert torch.equal(traced(x), head(x))


def test_pnorm_lets_features_of_length_one_into_the_last_layer(build):
    head, seen = build(pnorm=True), []
    head.last.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = 3 * torch.randn(5, 7)
    output = head(x)
    (features,) = seen
    assert features.shape == (5, 8)
    torch.testing.assert_close((features**2).sum(-1), torch.ones(5))
    raw = head.features(x)
    expected = affine(head.last, raw / torch.sqrt((raw**2).sum(-1, keepdim=True)))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)


def test_without_pnorm_the_last_layer_gets_the_features_themselves(build):
    head, x = build(), torch.randn(5, 7)
    assert torch.equal(head(x), head.last(head.features(x)))
    assert torch.equal(head(x), build(pnorm=False)(x))


def test_pnorm_adds_no_weights(build):
    assert list(build(pnorm=True).state_dict()) == list(build().state_dict())


@pytest.mark.parametrize("cls", [MLPHead, D2RLHead])
def test_pnorm_takes_the_scale_of_the_input_away_where_layers_are_homogeneous(cls):
    """Without biases ReLU layers are homogeneous; residual blocks with a LayerNorm are not."""
    head, x = cls(7, 2, width=8, pnorm=True).double(), inputs(7)
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    torch.testing.assert_close(head(10 * x), head(x))


def test_pnorm_survives_features_that_are_all_zero():
    head = MLPHead(7, 2, width=8, pnorm=True)
    nn.init.constant_(head.layers[1].bias, -1e3)
    x = torch.randn(5, 7, requires_grad=True)
    output = head(x)
    output.sum().backward()
    assert torch.equal(output, head.last.bias.expand(5, 2))
    assert all(torch.isfinite(p.grad).all() for p in [x, *head.parameters()])


@pytest.mark.parametrize("cls", Head.__subclasses__())
@pytest.mark.parametrize("bad", [{"width": 0}, {"width": 3.5}, {"pnorm": 1}, {"pnorm": "yes"}])
def test_wrong_options_of_every_head_are_named(cls, bad):
    (name,) = bad
    with pytest.raises(InvalidInput, match=f"head.{name} must be"):
        cls(7, 2, **bad)


@pytest.mark.parametrize(
    ("cls", "bad"),
    [
        *((cls, {"num_hidden_layers": 0}) for cls in (MLPHead, LayerNormMLPHead, D2RLHead)),
        *((cls, {"num_blocks": -1}) for cls in (ModernHead, SimBaHead, BroNetHead)),
        *((cls, {"expansion": 0}) for cls in (ModernHead, SimBaHead)),
    ],
)
def test_wrong_depths_are_named(cls, bad):
    (name,) = bad
    with pytest.raises(InvalidInput, match=f"head.{name} must be"):
        cls(7, 2, **bad)
