"""Accumulated metrics by hand."""

from __future__ import annotations

import torch

from drq_sn.training.metrics import MetricAccumulator


def tensors(**values):
    return {name.replace("__", "/"): torch.tensor(float(value)) for name, value in values.items()}


def test_means_over_updates_and_maxima_of_gradient_norms():
    accumulator = MetricAccumulator()
    accumulator.add(tensors(critic_loss=1, saturation_max=7, grad_norm__actor=5))
    accumulator.add(tensors(critic_loss=3, saturation_max=2, grad_norm__actor=2))
    accumulator.add(tensors(critic_loss=8))  # an update without the actor
    resumed = MetricAccumulator()
    resumed.load_state_dict(accumulator.state_dict())
    expected = {"critic_loss": 4.0, "saturation_max": 7.0, "grad_norm/actor": 3.5, "grad_norm_max/actor": 5.0}
    assert resumed.pop() == accumulator.pop() == expected
    assert accumulator.pop() == {}


def test_a_loaded_state_is_a_copy():
    state = MetricAccumulator().state_dict()
    accumulator = MetricAccumulator()
    accumulator.load_state_dict(state)
    accumulator.add(tensors(critic_loss=1, saturation_max=1))
    assert state == MetricAccumulator().state_dict()
