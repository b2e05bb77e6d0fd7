"""Training on a fixed replay, so that the data do not depend on the agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.training.diagnostics import layer_metrics, preserve_random_state, state_metrics
from drq_sn.training.metrics import MetricAccumulator, to_host
from drq_sn.types import Batch

UPDATE = "update"


def fit(
    agent: ActorCriticAgent,
    batch_of: Callable[[int], Batch],
    states: Batch,
    num_updates: int,
    steps_per_update: int,
    log_every_updates: int,
) -> Iterator[dict[str, float]]:
    """Train critic and actor of `agent` on given batches.

    Args:
        agent: a freshly initialized agent.
        batch_of: index of an update, from 0 -> its batch.
        states: transitions that diagnostics are computed on.
        num_updates: number of updates; fewer if training diverges.
        steps_per_update: environment steps per update, for schedules.
        log_every_updates: period of the rows.

    Yields:
        `update`, means and maxima of the agent's metrics since the last row, and diagnostics. If training
        diverges, the last row has no diagnostics.
    """
    accumulator = MetricAccumulator()
    for update in range(num_updates):
        step = update * steps_per_update
        accumulator.add(agent.update(batch_of(update), step))
        if (update + 1) % log_every_updates and update + 1 < num_updates:
            continue
        with preserve_random_state(agent.device):
            metrics = state_metrics(agent, states) | layer_metrics(agent, step) if agent.is_finite() else {}
            diagnostics = to_host(metrics)
        yield {UPDATE: update + 1, **accumulator.pop(), **diagnostics}
        if not diagnostics:
            return
