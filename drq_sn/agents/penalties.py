"""What may be added to the critic's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from drq_sn import validation

MAX_PIXEL = 255.0
TINY = 1e-16


class Penalty(Protocol):
    """What agents are given.

    Attributes:
        metric_names: under which an agent reports what was added; none where there is nothing to report.
    """

    metric_names: tuple[str, ...]

    def __call__(self, loss: Tensor, q_of: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """Return `loss`, 0-d, with the penalty; `q_of` maps observations like `obs`, (B, C, H, W) in 0..255, to Q (2, B)."""


class NoPenalty:
    """Adds nothing."""

    metric_names = ()

    def __call__(self, loss: Tensor, q_of: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """Return `loss` itself."""
        return loss


class GradientPenalty:
    """c E (||dQ/ds|| - k)^2, summed over both Q heads; s are pixels in [0, 1] (Gulrajani et al. 2017; Gogianu 5.2).

    It is differentiated twice, which makes a critic's update about three times as long.

    Args:
        coefficient: c.
        norm: k, the norm that is asked for.
    """

    metric_names = ("gradient_penalty",)
    compilable = False  # torch.compile differentiates once

    def __init__(self, coefficient: float = 1.0, norm: float = 1.0) -> None:
        self.coefficient = validation.real("penalty.coefficient", coefficient, 0)
        self.norm = validation.real("penalty.norm", norm, 0)

    def __call__(self, loss: Tensor, q_of: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """See `Penalty`."""
        pixels = obs.detach().to(torch.get_default_dtype()).requires_grad_()
        excess = torch.zeros((), device=obs.device)
        for q in q_of(pixels):
            (gradient,) = torch.autograd.grad(q.sum(), pixels, create_graph=True)
            norm = (gradient.flatten(1).square().sum(1) + TINY).sqrt()  # which can be differentiated at 0 too
            excess = excess + (MAX_PIXEL * norm - self.norm).square().mean()
        return loss + self.coefficient * excess
