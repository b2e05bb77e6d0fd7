"""Sizes of the networks: the four totals that reproduce the differences of the paper's Table 3."""

import pytest
import torch
from torch import nn

from drq_sn.agents.actor_critic import Components
from drq_sn.agents.penalties import NoPenalty
from drq_sn.agents.runtime import Eager
from drq_sn.cli.config.build import build_head, instantiate
from drq_sn.networks.encoders import ConvEncoder
from drq_sn.networks.normalizers import Spectral, Unnormalized
from drq_sn.training.augmentations import Identity
from drq_sn.training.schedules import Constant
from tests.builders import PARAMETER_MEGABYTES

MEGABYTE = 1e6


@pytest.fixture
def parameter_bytes(configure):
    """head -> bytes of DrQ's parameters at the published size with one action dimension, counted on the meta device."""

    def count(head):
        cfg = configure("agent=drq", f"head={head}", "head.width=1024", "agent.num_filters=32")
        with torch.device("meta"):
            components = Components(
                obs_shape=(9, 84, 84),
                action_dim=1,
                actor_head=build_head(cfg.head, "actor"),
                critic_head=build_head(cfg.head, "critic"),
                normalizer=Unnormalized(),
                penalty=NoPenalty(),
                lr=cfg.lr,
                lr_schedule=Constant(1.0),
                runtime=Eager(),
                augmentation=Identity(),
                device="meta",
            )
            agent = instantiate(cfg.agent, components)
        parameters = [p for name, p in agent.networks.named_parameters() if not name.startswith("temperature")]
        return 4 * sum(p.numel() for p in parameters)

    return count


@pytest.mark.parametrize("head", PARAMETER_MEGABYTES)
def test_parameter_totals(parameter_bytes, head):
    assert parameter_bytes(head) / MEGABYTE == pytest.approx(PARAMETER_MEGABYTES[head], abs=5e-4)


def test_84_pixels_give_39200_features_through_maps_of_41_39_37_35():
    encoder = ConvEncoder((9, 84, 84))
    x, sizes = torch.zeros(1, 9, 84, 84), []
    for conv in encoder.convs:
        x = conv(x)
        sizes.append(x.shape[-1])
    assert sizes == [41, 39, 37, 35]
    assert encoder.feature_dim == 39_200 == encoder(torch.zeros(2, 9, 84, 84, dtype=torch.uint8)).shape[1]


@pytest.mark.parametrize("offset", [0.0, -0.5])
@pytest.mark.parametrize("conv_layers", ["none", "all"])
def test_pixels_are_scaled_and_shifted_before_the_first_convolution(offset, conv_layers):
    """Features and all gradients, pixels included, equal those of explicitly scaled pixels to 1e-12 in float64."""
    torch.manual_seed(0)
    encoder = ConvEncoder((9, 24, 24), num_filters=4, pixel_offset=offset)
    Spectral(conv_layers=conv_layers).encoder_(encoder)
    encoder.double()
    for conv in encoder.convs:
        nn.init.uniform_(conv.bias)  # positive, so that no layer is dead
    pixels = torch.randint(0, 256, (20, 9, 24, 24)).double().requires_grad_()
    explicit = pixels / 255 + offset
    for conv in encoder.convs:
        explicit = torch.relu(conv(explicit))
    explicit, features = explicit.flatten(1), encoder(pixels)
    exact = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(features, explicit, **exact)
    inputs, direction = [pixels, *encoder.parameters()], torch.randn_like(features)
    gradients = (torch.autograd.grad(x, inputs, direction) for x in (features, explicit))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, **exact)
