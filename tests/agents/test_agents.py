"""Targets, normalizers during learning, acting, schedules, and updates that never wait for the device."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import svds
from torch.utils._python_dispatch import TorchDispatchMode

from drq_sn.networks.actor_critic import Critic, soft_update_, target_copy
from drq_sn.networks.heads import ModernHead
from drq_sn.networks.normalizers import Spectral
from drq_sn.networks.normalizers.power_iteration import tracked_layers
from drq_sn.validation import InvalidInput

AGENTS = ["agent=drq", "agent=drqv2"]
OBS = np.zeros((9, 24, 24), np.uint8)
RANDOM_OBS = np.random.default_rng(0).integers(0, 256, OBS.shape, np.uint8)


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("name", AGENTS)
def test_targets_are_those_of_the_papers_and_get_no_gradient(agent_of, batch, name):
    agent = agent_of(name)
    agent.update(batch, step=0)
    targets = {n for n in agent.networks if n.endswith("_target")}
    assert targets == ({"critic_target", "encoder_target"} if name == "agent=drq" else {"critic_target"})
    for target in targets:
        assert not any(parameter.requires_grad for parameter in agent.networks[target].parameters())


def test_drq_moves_actor_and_targets_every_second_step_only(agent_of, batch):
    agent = agent_of("agent=drq")
    before = {n: snapshot(m) for n, m in agent.networks.items()}
    metrics = agent.update(batch, step=1)
    assert "actor_loss" not in metrics
    for name in ("actor", "encoder_target", "critic_target", "temperature"):
        moved = changed(agent.networks[name], before[name])
        assert {n for n in moved if not n.endswith((".u", ".v"))} == set()
    assert changed(agent.critic, before["critic"])
    assert "actor_loss" in agent.update(batch, step=2)
    assert changed(agent.networks["critic_target"], before["critic_target"])


def test_soft_update_by_hand_and_without_the_normalizers_vectors():
    online = Critic(32, 2, 8, lambda i, o: ModernHead(i, o, 16, 1), Spectral())
    target = target_copy(online)
    with torch.no_grad():
        for parameter in online.parameters():
            parameter += 1.0
        for layer in tracked_layers(online).values():
            layer.u.neg_()
    before = snapshot(target)
    soft_update_(target, online, 0.01)
    for name, value in target.state_dict().items():
        if name.endswith((".u", ".v")):
            assert torch.equal(value, before[name])
            assert float(value.norm()) == pytest.approx(1.0, abs=1e-6)
        else:
            assert torch.allclose(value, before[name] + 0.01, atol=1e-6)


@pytest.mark.process  # networks of published size
@pytest.mark.parametrize(
    ("name", "head"),
    [("agent=drqv2", "modern2")]
    + [
        pytest.param(*choices, marks=pytest.mark.slow)
        for choices in (("agent=drq", "modern2"), *((name, "modern4") for name in AGENTS))
    ],
)
def test_sigma_is_within_ten_percent_from_the_first_update_on(agent_of, batch, name, head):
    """At the published width and learning rate, at which Adam's first steps rotate the leading singular vectors."""
    agent = agent_of(name, f"head={head}", "head.width=1024")
    generator = torch.Generator().manual_seed(1)
    for update in range(8):
        agent.update(blocks_of_color(batch, generator), step=update)
        if update in (0, 1, 3, 7):
            assert sigma_error(agent) <= 0.10, update
    assert len(tracked_layers(agent.networks["critic_target"])) == {"modern2": 4, "modern4": 12}[head]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["agent=drq"], (2.5, 2.5, 2.0)),
        (["agent=drq", "agent.actor_update_every_steps=4"], (2.25, 2.25, 2.0)),
        (["agent=drq", "update_every_steps=2"], (3.0, 3.0, 2.0)),
        (["agent=drqv2"], (2.0, 2.0, 1.0)),
    ],
)
def test_power_iterations_per_update_are_those_of_the_published_form(agent_of, batch, monkeypatch, options, expected):
    """What `torch.nn.utils.spectral_norm` does at every forward pass in training mode; ten times that at first."""
    agent = agent_of(*options, "head=mlp2")
    counts = collections.Counter()
    monkeypatch.setattr(agent, "power_iterate_", lambda n, *names: counts.update(dict.fromkeys(names, n)))
    for factor, num_updates in ((10, 0), (1, 300)):
        counts.clear()
        agent.num_updates = num_updates
        steps = range(0, 4, 2 if "update_every_steps=2" in options else 1)
        for step in steps:
            agent.update(batch, step)
        means = [counts[network] / len(steps) for network in ("actor", "critic", "critic_target")]
        assert means == [factor * n for n in expected]
        assert counts["encoder"] == counts["critic"]


@pytest.mark.parametrize("name", AGENTS)
def test_agents_of_one_seed_start_and_explore_alike_with_and_without_a_normalizer(agent_of, name):
    weights, next_draws = [], set()
    for normalizer in ("none", "spectral", "weight_norm"):
        agent = agent_of(name, "head=modern4", f"normalizer={normalizer}")
        weights.append([p for n, p in agent.networks.named_parameters() if not n.endswith("gain")])
        next_draws.add(float(torch.rand(1)))
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*weights, strict=True))
    assert len(next_draws) == 1


def sigma_error(agent):
    """Largest relative error of the estimates, against Lanczos iteration; one Q head stands for both."""
    errors = []
    for name, layer in tracked_layers(agent.networks).items():
        if ".q2." not in name:
            weight = layer.weight.detach().numpy()
            start = np.ones(min(weight.shape), np.float32)
            (largest,) = svds(weight, k=1, v0=start, return_singular_vectors=False)
            errors.append(abs(float(layer.sigma().detach()) / float(largest) - 1))
    return max(errors)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_sigma_is_within_one_percent_after_1000_updates(agent_of, batch, name):
    """At the published width: in narrow heads singular values are closer, which slows power iteration."""
    agent = agent_of(name, "head=modern4", "head.width=1024")
    generator = torch.Generator().manual_seed(1)
    for update in range(1000):
        agent.update(blocks_of_color(batch, generator), step=2 * update)
        if update in (49, 99, 299, 310):  # around the end of the warm-up too
            assert sigma_error(agent) <= 0.10, update
    assert sigma_error(agent) <= 0.01


def blocks_of_color(batch, generator):
    """Other observations of 4x4 blocks, and rewards that they and the action explain."""
    blocks = torch.randint(0, 4, (8, 9, 6, 6), generator=generator) * 60
    obs = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3).to(torch.uint8)
    return batch._replace(obs=obs, next_obs=obs.flip(0), reward=obs[:, 0, 0, 0] / 180 + batch.action[:, 0])


class NoSync(TorchDispatchMode):
    """Fails on any operation that would make the host wait for the device's numbers."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal.default")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(word in str(func) for word in self.FORBIDDEN), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_never_waits_for_the_device(agent_of, batch, name):
    agent = agent_of(name)
    agent.update(batch, step=0)
    with NoSync():
        metrics = agent.update(batch, step=2)
    assert all(m.shape == () and not m.requires_grad for m in metrics.values())
    with pytest.raises(AssertionError, match="waits"), NoSync():
        float(metrics["q1"])


@pytest.mark.gpu
@pytest.mark.parametrize("name", AGENTS)
def test_an_update_on_cuda_never_synchronizes(agent_of, batch, name):
    agent = agent_of(name, device="cuda")
    on_device = type(batch)(*(field.to("cuda") for field in batch))
    agent.update(on_device, step=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        agent.update(on_device, step=2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("normalizer", ["none", "spectral"])
def test_an_update_reports_what_it_says(agent_of, batch, name, normalizer):
    agent = agent_of(name, f"normalizer={normalizer}")
    assert set(agent.update(batch, step=0)) == set(agent.metric_names)
    assert bool(agent.sigmas()) == (normalizer == "spectral")


@pytest.mark.parametrize("name", AGENTS)
def test_acting(agent_of, name):
    agent = agent_of(name)
    mean = agent.act(OBS, step=0, explore=False)
    assert (mean.shape, mean.dtype) == ((2,), np.float32)
    state = torch.get_rng_state()
    assert np.array_equal(mean, agent.act(OBS, step=0, explore=False))
    assert torch.equal(torch.get_rng_state(), state)  # evaluation draws no random numbers
    explored = np.stack([agent.act(OBS, step=0, explore=True) for _ in range(200)])
    assert explored.std() > 0.01
    assert np.abs(explored).max() <= 1


@pytest.mark.parametrize(
    "obs",
    [RANDOM_OBS / 255, RANDOM_OBS.transpose(1, 2, 0), np.zeros((9, 84, 84), np.uint8), RANDOM_OBS[:3], RANDOM_OBS[None],
     RANDOM_OBS.astype(np.int64), torch.from_numpy(RANDOM_OBS).float(), RANDOM_OBS.tolist()],
    ids=["0 to 1", "channels last", "size", "one frame", "batch", "int64", "float tensor", "list"],
)  # fmt: skip
def test_acting_takes_one_observation_of_its_environment_only(agent_of, obs):
    with pytest.raises(InvalidInput, match=r"obs must be uint8 of shape \(9, 24, 24\), pixels 0 to 255, got ") as error:
        agent_of("agent=drqv2").act(obs, step=0, explore=False)
    assert "\n" not in str(error.value)


def test_acting_takes_any_memory_layout(agent_of):
    agent = agent_of("agent=drqv2")
    expected = agent.act(RANDOM_OBS, step=0, explore=False)
    flipped = np.ascontiguousarray(RANDOM_OBS[:, ::-1])[:, ::-1]
    read_only = np.frombuffer(RANDOM_OBS.tobytes(), np.uint8).reshape(OBS.shape)
    for obs in (flipped, read_only, torch.from_numpy(RANDOM_OBS)):
        assert np.array_equal(agent.act(obs, step=0, explore=False), expected)


def test_drqv2_explores_less_as_the_schedule_says(agent_of):
    agent = agent_of("agent=drqv2", "agent.std_schedule.duration_steps=1000")
    late = np.stack([agent.act(OBS, step=1000, explore=True) for _ in range(400)])
    assert late.std(0) == pytest.approx(0.1, rel=0.2)


def test_a_negative_deviation_is_refused(agent_of, monkeypatch):
    monkeypatch.setattr("drq_sn.training.schedules.Linear.__call__", lambda self, step: -0.5)
    with pytest.raises(InvalidInput, match=r"agent\.std_schedule at step 0 must be a number >= 0, got -0\.5"):
        agent_of("agent=drqv2")


def test_drqv2_does_not_clip_its_noise_in_acting(agent_of, monkeypatch):
    agent = agent_of("agent=drqv2")
    mean = agent.act(OBS, step=0, explore=False)
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.full_like(x, 0.5))
    assert agent.act(OBS, step=0, explore=True) == pytest.approx(np.minimum(mean + 0.5, 1.0), abs=1e-5)  # std is 1


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_uses_the_scheduled_learning_rate(agent_of, batch, name):
    """Adam's first step is lr times the gradient's sign: half of it halfway down the schedule, none at its end."""
    largest = []
    for step in (0, 50, 100):  # of 100 steps
        agent = agent_of(name, "head=mlp2", "normalizer=none", "lr=1e-3", "lr_schedule=linear")
        before = snapshot(agent.critic)
        agent.update(batch, step)
        largest.append(max(float((value - before[n]).abs().max()) for n, value in agent.critic.state_dict().items()))
    assert largest == pytest.approx([1e-3, 5e-4, 0.0], rel=1e-2)


@pytest.mark.parametrize("name", AGENTS)
def test_div_grad_divides_the_encoders_gradient_by_the_mean_of_both_q_heads(agent_of, batch, name):
    """The critic's loss trains the encoder: its divisor is the geometric mean of rho = 2 and rho = 3."""
    gradients = []
    for normalizer in ("none", "div_grad"):
        agent = agent_of(name, "head=mlp2", f"normalizer={normalizer}")
        with torch.no_grad():
            for q, rho in ((agent.critic.q1, 2.0), (agent.critic.q2, 3.0)):
                getattr(q, "head", q).layers[1].weight.mul_(rho)  # orthogonal before
        torch.manual_seed(1)
        agent.update(batch, step=1)
        gradients.append([p.grad for p in agent.encoder.parameters()])
    for plain, divided in zip(*gradients, strict=True):
        torch.testing.assert_close(divided * 6**0.5, plain, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("name", "targets"), [("agent=drq", ("encoder", "critic")), ("agent=drqv2", ("critic",))])
def test_targets_power_iterate_on_their_own_weights(agent_of, batch, name, targets):
    agent = agent_of(name, "normalizer.conv_layers=all")
    before = {n: layer.u.clone() for n, layer in tracked_layers(agent.networks).items()}
    agent.update(batch, step=0)
    for target in targets:
        layers = tracked_layers(agent.networks[f"{target}_target"])
        assert layers
        assert not any(torch.equal(layer.u, before[f"{target}_target.{n}"]) for n, layer in layers.items())
