"""Base class of the agents: optimizers, target copies, power iteration, learning rate, runtime and state."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.agents.runtime import Runtime
from drq_sn.networks.actor_critic import AnyModule, target_copy
from drq_sn.networks.normalizers.base import NormalizedLayer, Normalizer
from drq_sn.networks.normalizers.power_iteration import (
    WARM_UP_FACTOR,
    WARM_UP_UPDATES,
    power_iterate_,
    tracked_layers,
)
from drq_sn.types import Batch, Metrics

TARGET = "_target"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseComponents:
    """What every agent is built from besides the options of its algorithm.

    Attributes:
        obs_shape: (C, H, W) of the stacked frames.
        normalizer: applied to every network after its initialization, and to every optimizer step.
        lr: learning rate of every optimizer, before the schedule.
        lr_schedule: environment step -> factor of the learning rate.
        runtime: how updates and actions are executed.
        device: where everything lives.
    """

    obs_shape: tuple[int, int, int]
    normalizer: Normalizer
    lr: float
    lr_schedule: Callable[[int], float]
    runtime: Runtime
    device: torch.device | str


class BaseAgent(abc.ABC):
    """What every agent needs, with or without an actor.

    A subclass creates its networks with `add_network` and `add_target` and writes its update in `learn`.

    Args:
        components: see `BaseComponents`.
        adam_eps: Adam's epsilon, outside the square root.

    Attributes:
        metric_names: names of the metrics that `update` returns.
        obs_shape: (C, H, W) of an observation.
        networks: all networks by name; their state dict is what `weights.pt` and `best.pt` hold.
        num_updates: updates so far.
        warm_up_factor: factor of the power iterations in the first updates.
    """

    metric_names: tuple[str, ...]
    warm_up_factor = WARM_UP_FACTOR

    learn: Callable[..., Metrics]
    """The update as a function of device tensors, fit for every runtime.

    Called as `learn(batch, power_iteration_factor=..., **self.update_flags(step))`; returns detached metrics.
    """

    def __init__(self, components: BaseComponents, *, adam_eps: float) -> None:
        self.device = torch.device(components.device)
        self.obs_shape = components.obs_shape
        self.normalizer = components.normalizer
        self.lr, self.lr_schedule = validation.real("lr", components.lr, 0, open_low=True), components.lr_schedule
        validation.real("lr_schedule at step 0", self.lr_schedule(0), 0)
        self.adam_eps = validation.real("agent.adam_eps", adam_eps, 0)
        self.networks = nn.ModuleDict()
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.num_updates = 0
        # a tensor, because captured and compiled updates read it at every call; CUDA's fused Adam requires float32
        dtype = torch.float32 if self.device.type == "cuda" else torch.float64
        self._lr = torch.tensor(self.lr, dtype=dtype, device=self.device)
        self._losses_finite = torch.ones((), dtype=torch.bool, device=self.device)
        self.set_runtime(components.runtime)

    def set_runtime(self, runtime: Runtime) -> None:
        """Execute updates and actions in `runtime`; also called when tensors that a graph may hold were replaced."""
        self._runtime = runtime
        self._learn = runtime(self.learn, self.device, self.tensors)
        self._act = runtime(self._action, self.device, self.tensors)

    def tensors(self) -> list[Tensor]:
        """All tensors that an update or an action reads and writes besides its arguments."""
        states = [state for optimizer in self.optimizers.values() for state in optimizer.state.values()]
        moments = [x for state in states for x in state.values() if isinstance(x, Tensor)]
        return [*self.networks.state_dict().values(), *moments, self._losses_finite]

    def add_network(self, name: str, network: AnyModule) -> AnyModule:
        """Register `network` as `networks[name]`, on the agent's device, and return it."""
        self.networks[name] = network.to(self.device)
        return network

    def add_target(self, name: str) -> nn.Module:
        """Register and return the target copy of `networks[name]`, as `networks[f"{name}_target"]`."""
        self.networks[name + TARGET] = target = target_copy(self.networks[name])
        return target

    def add_optimizers(self, *names: str) -> None:
        """Give each of the named networks an optimizer."""
        on_cuda = self.device.type == "cuda"
        for name in names:
            parameters = self.networks[name].parameters()
            # capturable: Adam counts its steps on the device, so that a CUDA graph can
            optimizer = torch.optim.Adam(parameters, self.lr, eps=self.adam_eps, fused=True, capturable=on_cuda)
            optimizer.param_groups[0]["lr"] = self._lr
            self.optimizers[name] = optimizer

    @torch.no_grad()
    def initialize_(self, source: nn.ModuleDict, *names: str) -> None:
        """Copy the named networks from another agent's; call before the first update.

        Target networks become copies of them. A normalizer's buffers are copied where both agents have them; others
        are computed anew from the weights.

        Raises:
            InvalidInput: if this agent has no such network, or a network has other parameters there.
        """
        for name in names:
            if name not in self.networks:
                raise validation.InvalidInput(f"init_networks must be all: {type(self).__name__} has no {name}")
            network, theirs = self.networks[name], source[name] if name in source else nn.Module()
            _require_same_parameters(name, network, theirs)
            given, fresh = theirs.state_dict(), set[str]()  # names of layers with a buffer that the other lacks
            for key, tensor in network.state_dict().items():
                if key in given and given[key].shape == tensor.shape:
                    tensor.copy_(given[key])
                else:
                    fresh.add(key.rpartition(".")[0])
            for key, layer in network.named_modules():
                if isinstance(layer, NormalizedLayer) and key in fresh:
                    layer.fit_buffers_()
            if name + TARGET in self.networks:
                self.networks[name + TARGET].load_state_dict(network.state_dict())

    def update(self, batch: Batch, step: int) -> Metrics:
        """One gradient update at environment step `step`; never waits for the device."""
        self.at_step_(step)
        self._lr.fill_(self.learning_rate(step))
        warming_up = self.num_updates < WARM_UP_UPDATES and bool(tracked_layers(self.networks))
        factor = self.warm_up_factor if warming_up else 1
        metrics: Metrics = self._learn(batch, power_iteration_factor=factor, **self.update_flags(step))
        self.num_updates += 1
        return metrics

    def act(self, obs: np.ndarray | Tensor, step: int = 0, explore: bool = False) -> np.ndarray:
        """The action for one observation.

        Args:
            obs: stacked frames (C, H, W) uint8, on any device.
            step: environment step, on which exploration depends.
            explore: draw an action for training; otherwise act as in evaluations: the deterministic action, and for
                DQN and C51 rarely a uniform one.

        Returns:
            (A,) float32 in [-1, 1], or the number of a discrete action.

        Raises:
            InvalidInput: for anything else than one observation of the environment that it was built for.
        """
        with torch.inference_mode():
            self.at_step_(step)
            actions = self._act(self._to_device(obs)[None], explore=explore)
            action: np.ndarray = actions[0].cpu().numpy()
            return action

    def predict(self, obs: np.ndarray | Tensor) -> np.ndarray:
        """The deterministic actions for a batch of observations; of DQN and C51, the greedy ones.

        Args:
            obs: stacked frames (B, C, H, W) uint8, on any device.

        Returns:
            (B, A) float32 in [-1, 1], or the numbers of B discrete actions.

        Raises:
            InvalidInput: for anything else than observations of the environment that it was built for.
        """
        with torch.inference_mode():
            actions: np.ndarray = self._action(self._to_device(obs, "B"), explore=False).cpu().numpy()
            return actions

    def _to_device(self, obs: np.ndarray | Tensor, *batch: str) -> Tensor:
        """Observations with the leading dimensions `batch` as a tensor on the agent's device."""
        is_tensor = isinstance(obs, Tensor)
        dtype, shape = getattr(obs, "dtype", type(obs).__name__), tuple(getattr(obs, "shape", ()))
        is_shape = len(shape) == len(batch) + 3 and shape[len(batch) :] == self.obs_shape
        if not is_shape or dtype != (torch.uint8 if is_tensor else np.uint8):
            expected = ", ".join(map(str, (*batch, *self.obs_shape)))
            raise validation.InvalidInput(
                f"obs must be uint8 of shape ({expected}), pixels 0 to 255, got {dtype} of shape {shape}"
            )
        if not is_tensor:
            obs = np.require(obs, requirements=("C", "W"))  # torch takes no flipped or read-only array
        return torch.as_tensor(obs, device=self.device)

    @abc.abstractmethod
    def value(self, obs: Tensor) -> Tensor:
        """(B, C, H, W) -> Q values of the deterministic policy's actions, (B,)."""

    @abc.abstractmethod
    def critic_loss(self, batch: Batch) -> Tensor:
        """Loss of the critic or Q network on `batch`, 0-d, without a penalty; changes nothing."""

    @abc.abstractmethod
    def _action(self, obs: Tensor, explore: bool) -> Tensor:
        """(B, C, H, W) -> actions, B rows."""

    def update_flags(self, step: int) -> dict[str, Hashable]:
        """Further keyword arguments of `learn` at environment step `step`."""
        del step
        return {}

    def at_step_(self, step: int) -> None:  # noqa: B027  # an agent without schedules of its own changes nothing
        """Set the tensors that acting and learning read and that depend on environment step `step`."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of every optimizer at environment step `step`."""
        return self.lr * self.lr_schedule(step)

    def descend_(self, loss: Tensor, *names: str) -> Metrics:
        """One optimizer step on `loss`, 0-d, for the named networks; no other network gets a gradient.

        Returns:
            The gradient norm of each named network before the step, as `grad_norm/{name}`.
        """
        self._losses_finite.logical_and_(torch.isfinite(loss.detach()))
        networks = [self.networks[name] for name in names]
        parameters = [list(network.parameters()) for network in networks]
        gradients = iter(torch.autograd.grad(loss, [p for group in parameters for p in group]))
        norms = {}
        for name, group in zip(names, parameters, strict=True):
            for parameter in group:
                parameter.grad = next(gradients)
            norms[f"grad_norm/{name}"] = nn.utils.get_total_norm([p.grad for p in group if p.grad is not None])
        for name, network in zip(names, networks, strict=True):
            self.normalizer.step_(self.optimizers[name], network, networks)
        return norms

    def power_iterate_(self, num_iterations: int, *names: str) -> None:
        """Update u and v of the named networks' tracked layers; call after their weights changed."""
        layers = [layer for name in names for layer in tracked_layers(self.networks[name]).values()]
        power_iterate_(layers, num_iterations)

    def is_finite(self) -> bool:
        """Whether all losses so far and all weights are finite; waits for the device."""
        finite = [self._losses_finite, *(torch.isfinite(p.detach()).all() for p in self.networks.parameters())]
        return bool(torch.stack(finite).all())

    def sigmas(self) -> Metrics:
        """Estimated spectral norm of every layer that tracks it, by layer name."""
        with torch.no_grad():
            return {f"sigma/{name}": layer.sigma() for name, layer in tracked_layers(self.networks).items()}

    def state_dict(self) -> dict[str, Any]:
        """Weights, normalizer and optimizer state, the number of updates, and whether all losses were finite."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "losses_finite": self._losses_finite,
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, from whatever device."""
        self.networks.load_state_dict(state["networks"])
        self._losses_finite.copy_(state["losses_finite"])
        self.num_updates = state["num_updates"]
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            group = optimizer.param_groups[0]  # now has the settings of the device that saved it
            group["capturable"], group["lr"] = self.device.type == "cuda", self._lr
        self.set_runtime(self._runtime)


def _require_same_parameters(name: str, here: nn.Module, there: nn.Module) -> None:
    """Raise `InvalidInput` for the first parameter of the network `name` that differs in name or shape."""
    shapes = [{key: tuple(p.shape) for key, p in network.named_parameters()} for network in (here, there)]
    for key in {**shapes[0], **shapes[1]}:
        is_here, is_there = (shape.get(key, "absent") for shape in shapes)
        if is_here != is_there:
            raise validation.InvalidInput(
                f"init_from must be a run with the same {name}: {name}.{key} is {is_there} there and {is_here} here"
            )
