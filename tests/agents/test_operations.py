"""Operations that an update dispatches, which on a GPU are about as many kernels to launch: upper bounds."""

from __future__ import annotations

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from drq_sn.agents import base
from drq_sn.networks.normalizers.power_iteration import iterate_together_
from drq_sn.training.metrics import MetricAccumulator

NO_KERNEL = {"empty", "empty_like", "new_empty", "_record_function_enter_new", "_record_function_exit"}
LATER = 1000  # updates, after the warm-up of power iteration


class OperationCounter(TorchDispatchMode):
    """Counts operations other than views and allocations; a foreach or fused operation is one."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        self.count += name not in NO_KERNEL and not is_view
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(
    ("agent", "options", "bound"),
    [
        ("drqv2", ["head=mlp2", "normalizer=none"], 280),
        ("drqv2", ["head=modern4", "normalizer=spectral"], 1030),  # 1325 with layers iterated one after the other
        ("drq", ["head=mlp2", "normalizer=none"], 555),
        ("drq", ["head=modern4", "normalizer=spectral"], 1775),  # 2272
    ],
)
def test_an_update_dispatches_no_more_operations_than_pinned(agent_of, batch, monkeypatch, agent, options, bound):
    monkeypatch.setattr(base, "power_iterate_", iterate_together_)  # as on a GPU
    learner, accumulator = agent_of(f"agent={agent}", *options), MetricAccumulator()
    learner.num_updates = LATER
    accumulator.add(learner.update(batch, step=0))  # creates Adam's moments
    with OperationCounter() as update:
        metrics = learner.update(batch, step=2)
    assert 0.9 * bound < update.count <= bound  # far below, the bound says nothing
    with OperationCounter() as addition:
        accumulator.add(metrics)
    assert addition.count == 2
