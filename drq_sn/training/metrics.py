"""Accumulation of metrics on the device, and their copy to the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from drq_sn.types import Metrics

GRAD_NORM, GRAD_NORM_MAX = "grad_norm/", "grad_norm_max/"
MAXIMUM = "_max"  # suffix of metrics whose maximum is logged instead of the mean


class MetricAccumulator:
    """Means of metrics over many updates, and maxima of gradient norms and of `*_max`, kept on the device."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._maxima: dict[str, Tensor] = {}

    def add(self, metrics: Metrics) -> None:
        """Add the metrics of one update, without waiting for the device."""
        summed = {name: value for name, value in metrics.items() if not name.endswith(MAXIMUM)}
        largest = {name: value for name, value in metrics.items() if name.endswith(MAXIMUM)}
        largest |= {n.replace(GRAD_NORM, GRAD_NORM_MAX): x for n, x in summed.items() if n.startswith(GRAD_NORM)}
        _combine_(torch._foreach_add, self._sums, summed)
        _combine_(torch._foreach_maximum, self._maxima, largest)
        for name in summed:
            self._counts[name] = self._counts.get(name, 0) + 1

    def state_dict(self) -> dict[str, Any]:
        """Everything added since the last `pop`."""
        return {"sums": self._sums, "counts": self._counts, "maxima": self._maxima}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._sums, self._counts, self._maxima = (dict(state[name]) for name in ("sums", "counts", "maxima"))

    def pop(self) -> dict[str, float]:
        """Copy everything to the host in a single transfer and reset."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        host = to_host(means | self._maxima)
        self._reset()
        return host


def _combine_(operation: Callable[..., Sequence[Tensor]], kept: Metrics, new: Metrics) -> None:
    """Combine `new` values with those of the same names in `kept`, in one kernel, and keep the others as they are."""
    names = [name for name in new if name in kept]
    combined = operation([kept[name] for name in names], [new[name] for name in names]) if names else ()
    kept |= new
    kept |= dict(zip(names, combined, strict=True))


def to_host(metrics: Metrics) -> dict[str, float]:
    """0-d tensors -> floats, in a single transfer."""
    if not metrics:
        return {}
    return dict(zip(metrics, torch.stack([m.float() for m in metrics.values()]).tolist(), strict=True))
