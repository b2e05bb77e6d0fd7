"""Penalties added to the critic loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.networks.encoders import MAX_PIXEL

TINY = 1e-16


class Penalty(Protocol):
    """A term of the critic loss that depends on Q as a function of the observation.

    Attributes:
        metric_names: names under which the penalty is reported; empty if it is always zero.
        compilable: whether torch.compile can compile an update with it.
    """

    metric_names: tuple[str, ...]
    compilable: bool

    def __call__(self, q_function: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """Compute the penalty, 0-d.

        Args:
            q_function: observations like `obs` -> Q values (2, B) of the batch's actions.
            obs: (B, C, H, W) in 0..255.
        """


class NoPenalty:
    """Zero."""

    metric_names: tuple[str, ...] = ()
    compilable = True

    def __call__(self, q_function: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """Return zero, 0-d."""
        del q_function
        return torch.zeros((), device=obs.device)


class GradientPenalty:
    """c E (||dQ/ds|| - k)^2, summed over both Q heads; s are pixels in [0, 1] (Gulrajani et al. 2017; Gogianu 5.2).

    Its gradient needs second derivatives, which makes the critic update about three times as slow.

    Args:
        coefficient: c.
        norm: k, the gradient norm without penalty.
    """

    metric_names: tuple[str, ...] = ("gradient_penalty",)
    compilable = False  # torch.compile has no second derivatives

    def __init__(self, coefficient: float = 1.0, norm: float = 1.0) -> None:
        self.coefficient = validation.real("penalty.coefficient", coefficient, 0)
        self.norm = validation.real("penalty.norm", norm, 0)

    def __call__(self, q_function: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """See `Penalty`."""
        pixels = obs.detach().to(torch.get_default_dtype()).requires_grad_()
        total = torch.zeros((), device=obs.device)
        for q in q_function(pixels):
            (gradient,) = torch.autograd.grad(q.sum(), pixels, create_graph=True)
            norm = (gradient.flatten(1).square().sum(1) + TINY).sqrt()  # differentiable at 0, too
            total = total + (MAX_PIXEL * norm - self.norm).square().mean()
        return self.coefficient * total
