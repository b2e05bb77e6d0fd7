"""Encoder and trunk in bfloat16, against float32."""

from __future__ import annotations

import pytest
import torch

from drq_sn.cli.config import build
from drq_sn.networks.encoders import ConvEncoder, Trunk
from drq_sn.networks.normalizers.power_iteration import tracked_layers
from drq_sn.validation import InvalidInput


@pytest.fixture
def with_bfloat16(monkeypatch):
    """`with_bfloat16(False)`: a machine that has no such instructions."""

    def machine(has_it=True):
        monkeypatch.setattr(build, "has_bfloat16", lambda device: has_it)

    machine()
    return machine


def features_and_gradients(dtype, obs):
    torch.manual_seed(0)
    encoder = ConvEncoder((9, 24, 24), num_filters=8, pixel_offset=-0.5, dtype=dtype)
    trunk = Trunk(encoder.feature_dim, 50)
    features = encoder(obs)
    output = trunk(features)
    parameters = [*encoder.parameters(), *trunk.parameters()]
    return features, output, torch.autograd.grad((output * torch.linspace(-1, 1, 50)).sum(), parameters)


def relative_error(x, reference):
    return float(((x - reference).norm() / reference.norm()).detach())


def test_feature_maps_are_bfloat16_and_gradients_float32():
    obs = torch.randint(0, 256, (20, 9, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features, output, gradients = features_and_gradients(torch.bfloat16, obs)
    exact_features, exact_output, exact_gradients = features_and_gradients(None, obs)
    assert features.dtype == torch.bfloat16
    assert exact_features.dtype == output.dtype == torch.float32
    assert 1e-4 < relative_error(features.float(), exact_features) < 0.01  # 8 bits, not the same as float32
    assert relative_error(output, exact_output) < 0.02
    for ours, theirs in zip(gradients, exact_gradients, strict=True):
        assert ours.dtype == torch.float32
        assert relative_error(ours, theirs) < 0.2  # units near zero switch


@pytest.mark.parametrize("agent", ["drq", "drqv2"])
def test_an_agent_trains_on_float32_weights(agent_of, batch, with_bfloat16, agent):
    agent = agent_of(
        f"agent={agent}", "encoder_dtype=bfloat16", "normalizer.conv_layers=all", "normalizer.trunk=true", "head=mlp2"
    )
    for step in range(4):
        metrics = agent.update(batch, step)
    assert agent.encoder(batch.obs).dtype == torch.bfloat16
    assert agent.is_finite()
    state = [*agent.networks.state_dict().values(), *metrics.values()]
    assert {x.dtype for x in state} == {torch.float32}
    assert {layer.sigma().dtype for layer in tracked_layers(agent.networks).values()} == {torch.float32}
    assert agent.act(batch.obs[0], 0, explore=True).dtype == "float32"


@pytest.mark.parametrize(
    ("shape", "message"), [((9, 16, 16), "env.image_size must be an integer >= 17"), ((9, 64, 48), "must be square")]
)
def test_a_size_without_an_encoder_is_refused(shape, message):
    with pytest.raises(InvalidInput, match=message):
        ConvEncoder(shape)


def test_bfloat16_is_refused_in_one_line_where_the_hardware_has_none(agent_of, with_bfloat16):
    with_bfloat16(False)
    with pytest.raises(
        InvalidInput,
        match="encoder_dtype must be float32 on this cpu device, which has no bfloat16 instructions, got bfloat16",
    ):
        agent_of("encoder_dtype=bfloat16")
    with pytest.raises(InvalidInput, match="encoder_dtype"):
        agent_of("encoder_dtype=float16")
    assert agent_of().encoder.dtype is None
