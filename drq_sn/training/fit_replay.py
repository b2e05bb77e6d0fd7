"""Learning from a fixed replay: what heads do when nothing they do changes the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.training.diagnostics import of_layers, of_states, undisturbed
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
    """Train `agent`, critic and actor, on given batches.

    Args:
        agent: a fresh one.
        batch_of: number of the update, from 0 -> its batch.
        states: what the instruments look at.
        num_updates: how many there are; fewer when learning crashes.
        steps_per_update: environment steps that schedules see pass with each.
        log_every_updates: how often numbers are given.

    Yields:
        `update`, means and maxima of the agent's metrics since the last time, and the instruments'
        numbers; a crash is the last, as numbers that are none.
    """
    accumulator = MetricAccumulator()
    for update in range(num_updates):
        step = update * steps_per_update
        accumulator.add(agent.update(batch_of(update), step))
        if (update + 1) % log_every_updates and update + 1 < num_updates:
            continue
        with undisturbed(agent.device):
            instruments = to_host(of_states(agent, states) | of_layers(agent, step)) if agent.is_finite() else {}
        yield {UPDATE: update + 1, **accumulator.pop(), **instruments}
        if not instruments:
            return
