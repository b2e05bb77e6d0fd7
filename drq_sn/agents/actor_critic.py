"""Base class of the agents."""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.agents.penalties import Penalty
from drq_sn.agents.runtime import Runtime
from drq_sn.networks.actor_critic import Actor, Critic, HeadFactory, soft_update_
from drq_sn.networks.encoders import ConvEncoder
from drq_sn.networks.normalizers.base import Normalizer
from drq_sn.networks.normalizers.spectral import WARM_UP_FACTOR, WARM_UP_UPDATES, tracked_layers
from drq_sn.types import Batch, Metrics

Augmentation = Callable[[Tensor], Tensor]
TRAINED_THROUGH = {"encoder": "critic"}  # networks that another one's loss trains


class ActorCriticAgent(abc.ABC):
    """Shared encoder, actor, critic, target networks and their optimizers.

    A subclass adds its target networks with `_add_target`, its optimizers with `_add_optimizer`,
    its policy in `_pre_tanh` and `_explore`, and its recipe in `learn`, made of `_update_critic_` and `_update_actor_`.

    Args:
        obs_shape: (C, H, W) of the stacked frames.
        action_dim: number of action dimensions.
        policy_dim: numbers per state that the actor's head puts out.
        pixel_offset: see `ConvEncoder`.
        num_filters: see `ConvEncoder`.
        trunk_dim: width of the trunks.
        actor_head: builds the actor's head.
        critic_head: builds each Q head.
        normalizer: applied to every part after its initial weights are set, and around every step of an optimizer.
        penalty: added to the critic's loss.
        augmentation: (B, C, H, W) -> the same, fresh random numbers on each call.
        tau: share of the online network in a soft update.
        lr: learning rate of every optimizer, before the schedule.
        lr_schedule: environment step -> factor of the learning rate.
        adam_eps: Adam's epsilon, outside the square root.
        runtime: how updates and actions are executed.
        device: where everything lives.
    """

    metric_names: tuple[str, ...]
    learn: Callable[..., Metrics]
    """The update as a function of device tensors alone, fit for every runtime: batch and flags -> metrics."""

    def __init__(
        self,
        *,
        obs_shape: tuple[int, int, int],
        action_dim: int,
        policy_dim: int,
        pixel_offset: float,
        num_filters: int,
        trunk_dim: int,
        actor_head: HeadFactory,
        critic_head: HeadFactory,
        normalizer: Normalizer,
        penalty: Penalty,
        augmentation: Augmentation,
        tau: float,
        lr: float,
        lr_schedule: Callable[[int], float],
        adam_eps: float,
        runtime: Runtime,
        device: torch.device | str,
    ) -> None:
        self.device = torch.device(device)
        self.augmentation = augmentation
        self.tau = validation.real("agent.tau", tau, 0, 1)
        self.lr, self.lr_schedule = validation.real("lr", lr, 0, open_low=True), lr_schedule
        validation.real("lr_schedule at step 0", lr_schedule(0), 0)
        self.adam_eps = validation.real("agent.adam_eps", adam_eps, 0)
        self._normalizer, self._penalty = normalizer, penalty
        self.metric_names = (*self.metric_names, *penalty.metric_names)
        encoder = ConvEncoder(obs_shape, num_filters, pixel_offset)
        actor = Actor(encoder.feature_dim, policy_dim, trunk_dim, actor_head, normalizer)
        critic = Critic(encoder.feature_dim, action_dim, trunk_dim, critic_head, normalizer)
        normalizer.encoder_(encoder, obs_shape)
        self.encoder, self.actor, self.critic = encoder.to(self.device), actor.to(self.device), critic.to(self.device)
        self.networks = nn.ModuleDict({"encoder": encoder, "actor": actor, "critic": critic})
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        # a tensor, which a compiled or captured update reads anew; CUDA's Adam wants single precision
        self._lr = torch.tensor(
            self.lr, dtype=torch.float32 if self.device.type == "cuda" else torch.float64, device=self.device
        )
        self.num_updates = 0
        self._losses_finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._online_of_target: dict[str, nn.Module] = {}
        self._runtime = runtime
        self._execute()

    def _execute(self) -> None:
        """Take `learn` and `_action` into the runtime, anew where tensors were exchanged that it may have captured."""
        self._learn = self._runtime(self.learn, self.device)
        self._act = self._runtime(self._action, self.device)

    def act(self, obs: np.ndarray | Tensor, step: int, explore: bool) -> np.ndarray:
        """Stacked frames (C, H, W) uint8, on any device -> action (A,) float32; the policy's mean unless `explore`."""
        with torch.inference_mode():
            self.at_step_(step)
            return self._act(torch.as_tensor(obs, device=self.device)[None], explore=explore)[0].cpu().numpy()

    def _action(self, obs: Tensor, explore: bool) -> Tensor:
        """(B, C, H, W) -> actions (B, A) float32."""
        output = self.actor(self.encoder(obs))
        return (self._explore(output) if explore else torch.tanh(self._pre_tanh(output))).float()

    def mean_action(self, features: Tensor) -> Tensor:
        """The encoder's features (B, F) -> the deterministic policy's actions (B, A)."""
        return torch.tanh(self.pre_tanh_action(features))

    def pre_tanh_action(self, features: Tensor) -> Tensor:
        """The encoder's features (B, F) -> the deterministic policy's actions before their tanh (B, A)."""
        return self._pre_tanh(self.actor(features))

    def update(self, batch: Batch, step: int) -> Metrics:
        """One gradient update at environment step `step`; never waits for the device."""
        self.at_step_(step)
        self._lr.fill_(self.learning_rate(step))
        metrics = self._learn(batch, power_iteration_factor=self._power_iteration_factor(), **self._flags(step))
        self.num_updates += 1
        return metrics

    def _flags(self, step: int) -> dict[str, Hashable]:
        """Further keyword arguments of `learn` at environment step `step`."""
        return {}

    @abc.abstractmethod
    def critic_loss(self, batch: Batch) -> Tensor:
        """The critic's loss on `batch`, 0-d, without training anything."""

    @abc.abstractmethod
    def _pre_tanh(self, actor_output: Tensor) -> Tensor:
        """The actor's output (B, policy_dim) -> mean actions before their tanh (B, A)."""

    @abc.abstractmethod
    def _explore(self, actor_output: Tensor) -> Tensor:
        """The actor's output (B, policy_dim) -> sampled actions (B, A)."""

    def at_step_(self, step: int) -> None:  # noqa: B027  # not every agent has any
        """Set what acting and learning read and depends on the environment step."""

    def learning_rate(self, step: int) -> float:
        """Of every optimizer at environment step `step`."""
        return self.lr * self.lr_schedule(step)

    def _add_target(self, name: str, target: nn.Module, online: nn.Module) -> None:
        self.networks[name] = target
        self._online_of_target[name] = online

    def _add_optimizer(self, name: str, parameters: Iterable[Tensor]) -> None:
        capturable = (
            self.device.type == "cuda"
        )  # its count of updates then lives on the device, where a graph can raise it
        optimizer = torch.optim.Adam(parameters, self.lr, eps=self.adam_eps, fused=True, capturable=capturable)
        for group in optimizer.param_groups:
            group["lr"] = self._lr
        self.optimizers[name] = optimizer

    def _power_iterate_(self, num_iterations: int, *names: str) -> None:
        """Refresh u and v of the layers of the named networks that track their norm; call after their weights changed."""
        for name in names:
            for layer in tracked_layers(self.networks[name]).values():
                layer.power_iterate_(num_iterations)

    def _power_iteration_factor(self) -> int:
        """How many times as many power iterations as usual the next update does: more while the agent is young."""
        is_young = self.num_updates < WARM_UP_UPDATES and bool(tracked_layers(self.networks))
        return WARM_UP_FACTOR if is_young else 1

    def _update_targets_(self) -> None:
        for name, online in self._online_of_target.items():
            soft_update_(self.networks[name], online, self.tau)

    def _q_of(self, action: Tensor) -> Callable[[Tensor], Tensor]:
        """Observations (B, C, H, W) -> Q values (2, B) of `action` (B, A)."""
        return lambda obs: self.critic(self.encoder(obs), action)

    def _noise_like(self, x: Tensor) -> Tensor:
        """Standard normal noise, shaped like `x`."""
        return torch.randn_like(x)

    def _descend_(self, loss: Tensor, *names: str) -> Metrics:
        """One optimizer step on `loss` for the named networks.

        Returns:
            The norm of each named network's gradient, as `grad_norm/{name}`.
        """
        self._losses_finite.logical_and_(torch.isfinite(loss.detach()))
        parameters = {name: list(self.networks[name].parameters()) for name in names}
        flat = [p for group in parameters.values() for p in group]
        for parameter, gradient in zip(flat, torch.autograd.grad(loss, flat), strict=True):
            parameter.grad = gradient
        gradients = {name: [p.grad for p in group if p.grad is not None] for name, group in parameters.items()}
        norms = {f"grad_norm/{name}": nn.utils.get_total_norm(group) for name, group in gradients.items()}
        for name in names:
            trained_through = self.networks[TRAINED_THROUGH.get(name, name)]
            self._normalizer.step_(self.optimizers[name], self.networks[name], trained_through)
        return norms

    def _critic_metrics(
        self, critic_loss: Tensor, penalized: Tensor, target: Tensor, q: Tensor, batch: Batch
    ) -> Metrics:
        q1, q2 = q.detach().mean(-1)
        return {
            "critic_loss": critic_loss.detach(),
            "critic_target": target.mean(),
            "q1": q1,
            "q2": q2,
            "batch_reward": batch.reward.mean(),
            **{name: (penalized - critic_loss).detach() for name in self._penalty.metric_names},
        }

    def is_finite(self) -> bool:
        """Whether every loss so far and every weight is a number; waits for the device."""
        finite = [self._losses_finite, *(torch.isfinite(p.detach()).all() for p in self.networks.parameters())]
        return bool(torch.stack(finite).all())

    def phases(self) -> dict[str, list[tuple[Any, str]]]:
        """Where the parts of an update happen: phase -> (owner, name of its callable), for a profiler to label."""
        encoders = [network for name, network in self.networks.items() if name.startswith("encoder")]
        return {
            "augment": [(self, "augmentation")],
            "encode": [(encoder, "forward") for encoder in encoders] + [(self.optimizers["encoder"], "step")],
            "critic": [(self, "_update_critic_")],
            "actor": [(self, "_update_actor_")],
            "target": [(self, "_update_targets_")],
            "power iteration": [(self, "_power_iterate_")],
        }

    def sigmas(self) -> Metrics:
        """Estimated spectral norm of every layer that tracks it, by layer name."""
        with torch.no_grad():
            return {f"sigma/{name}": layer.sigma() for name, layer in tracked_layers(self.networks).items()}

    def state_dict(self) -> dict[str, Any]:
        """Weights, normalizer state, optimizer state, and whether all went well."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
            "losses_finite": self._losses_finite,
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.networks.load_state_dict(state["networks"])
        self._losses_finite.copy_(state["losses_finite"])
        self.num_updates = state["num_updates"]
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            for group in optimizer.param_groups:  # it took the saving device's
                group["capturable"], group["lr"] = self.device.type == "cuda", self._lr
        self._execute()
