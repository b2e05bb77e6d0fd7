"""Accumulation of metrics on the device, and their copy to the host."""

from __future__ import annotations

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
        for name, value in metrics.items():
            if not name.endswith(MAXIMUM):
                self._sums[name] = self._sums[name] + value if name in self._sums else value
                self._counts[name] = self._counts.get(name, 0) + 1
            if name.endswith(MAXIMUM) or name.startswith(GRAD_NORM):
                key = name.replace(GRAD_NORM, GRAD_NORM_MAX)
                self._maxima[key] = torch.maximum(self._maxima[key], value) if key in self._maxima else value

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


def to_host(metrics: Metrics) -> dict[str, float]:
    """0-d tensors -> floats, in a single transfer."""
    if not metrics:
        return {}
    return dict(zip(metrics, torch.stack([m.float() for m in metrics.values()]).tolist(), strict=True))
