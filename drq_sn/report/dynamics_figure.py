"""Figure 3 of Bjorck et al. (2021) and further diagnostics of training, from the logs of runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from drq_sn.report.curves import Panel, draw
from drq_sn.report.scores import has_suite_return
from drq_sn.report.style import save_figure
from drq_sn.report.types import Figure, Row, Run, Series
from drq_sn.report.variants import label_variants
from drq_sn.runs.reader import DIAGNOSTICS, EVAL, TRAIN

BIN_FRAMES = 1000  # episodes of different seeds end at different frames; their bins are the same
PAPER_COLUMNS, COLUMNS = 2, 3  # panels side by side
FIELDS = ("task", "agent", "head", "normalizer", "settings", "seed", "frame", "quantity", "value")


class Quantity(NamedTuple):
    """The quantity of one panel."""

    name: str  # in `diagnostics.csv` of the report
    title: str  # of the panel
    file: str  # log that has it
    columns: Sequence[str] = ()  # see `Log.rows`; the first that the run has; `name` if empty
    log: bool = False  # drawn on a logarithmic axis; means over bins and seeds are then geometric
    combine: Callable[[Sequence[float]], float] = statistics.fmean  # several columns -> one number


RETURNS = Quantity("episode_return", "evaluation return", EVAL)
FIGURE3 = (
    Quantity("critic_loss", "critic loss on the replay", DIAGNOSTICS, log=True),
    RETURNS,
    Quantity("grad_norm/actor", "actor gradient norm", TRAIN, log=True),
    Quantity("grad_norm/critic", "critic gradient norm", TRAIN, ["grad_norm/critic", "grad_norm/q_network"], log=True),
)
FURTHER = (
    Quantity("action_gradient_mean", "gradient of Q by the action, mean norm", DIAGNOSTICS, log=True),
    Quantity("smoothness", "gradient of Q by the pixels, largest norm", DIAGNOSTICS, log=True),
    Quantity("overestimation", "overestimation", DIAGNOSTICS),
    Quantity("effective_rank/critic", "effective rank, critic", DIAGNOSTICS),
    Quantity("effective_rank/actor", "effective rank, actor", DIAGNOSTICS),
    Quantity("dormant/critic", "share of dormant units, critic", DIAGNOSTICS),
    Quantity("dormant/actor", "share of dormant units, actor", DIAGNOSTICS),
    Quantity("sigma_max/critic", "largest spectral norm of the critic's weights, before normalization", DIAGNOSTICS,
             ["sigma/critic.", "sigma/q_network."], log=True, combine=np.max),
    Quantity("effective_lr/critic", "effective learning rate, mean of the critic's layers", DIAGNOSTICS,
             ["effective_lr/critic.", "effective_lr/q_network."], log=True),
)  # fmt: skip
QUANTITIES = (*FIGURE3, *FURTHER)


@dataclass(frozen=True)
class Group:
    """Seeds of one task and variant."""

    label: str  # in legends
    runs: Sequence[Run]  # the seeds
    quantities: Mapping[str, Sequence[Series]]  # name -> its series, one per run


def group_runs(runs: Sequence[Run]) -> dict[str, list[Group]]:
    """Task -> its groups, variants in their order."""
    labels = label_variants(runs)
    return {
        task: [
            Group(label, seeds, {q.name: [read_series(run, q) for run in seeds] for q in QUANTITIES})
            for variant, label in labels.items()
            if (seeds := [run for run in runs if (run.task, run.variant) == (task, variant)])
        ]
        for task in sorted({run.task for run in runs})
    }


def read_series(run: Run, quantity: Quantity) -> Series:
    """The values of `quantity` that can be drawn: finite, and positive on a logarithmic axis; and where others are.

    Values of one bin become their mean, geometric on a logarithmic axis; a bin is at the frame it ends with. Without
    bins, the last of several rows with one frame counts.
    """
    if quantity is RETURNS:
        return run.returns
    bins: dict[float, list[float]] = {}
    below, missing = set(), set()
    found = (list(run.logs[quantity.file].rows(columns)) for columns in quantity.columns or [quantity.name])
    rows, width = next(filter(None, found), []), BIN_FRAMES if quantity.file == TRAIN else None
    for frame, numbers in rows if width else dict(rows).items():
        value = quantity.combine(numbers)
        place = math.ceil(frame / width) * width if width else frame
        if not math.isfinite(value):
            missing.add(place)
        elif quantity.log and value <= 0:
            below.add(place)
        else:
            bins.setdefault(place, []).append(value)
    mean = statistics.geometric_mean if quantity.log else statistics.fmean
    drawn = {frame: mean(bins[frame]) for frame in sorted(bins)}
    return Series(drawn, frozenset(below), frozenset(missing), run.end_frame if run.diverged else None)


def figure3(name: str, task: str, groups: Sequence[Group]) -> Figure:
    """Critic loss on the replay, return and gradient norms over frames (Bjorck et al. 2021, Figure 3)."""
    return _draw(name, task, _present(FIGURE3, groups) or FIGURE3, groups, PAPER_COLUMNS)


def further_diagnostics(name: str, task: str, groups: Sequence[Group]) -> list[Figure]:
    """One panel for each further quantity that any run has; no figure without any."""
    present = _present(FURTHER, groups)
    return [_draw(name, task, present, groups, COLUMNS)] if present else []


def _present(quantities: Sequence[Quantity], groups: Sequence[Group]) -> list[Quantity]:
    """Those that any run of `groups` has; an agent without an actor has fewer."""
    return [q for q in quantities if any(series.values for group in groups for series in group.quantities[q.name])]


def _draw(name: str, task: str, quantities: Sequence[Quantity], groups: Sequence[Group], columns: int) -> Figure:
    is_return = all(has_suite_return(run) for group in groups for run in group.runs)
    panels = [
        Panel(
            quantity.title,
            {group.label: group.quantities[quantity.name] for group in groups},
            log=quantity.log,
            is_return=is_return and quantity is RETURNS,
        )
        for quantity in quantities
    ]
    series = [each for panel in panels for seeds in panel.groups.values() for each in seeds]
    last = max((frame for each in series for frame in (*each.values, each.diverged_at or 0)), default=0)
    alt = f"Diagnostics of the runs on {task}, over frames: {'; '.join(quantity.title for quantity in quantities)}."
    return save_figure(name, alt, draw(panels, last, "mean over seeds, geometric on log axes", columns))


def diagnostics_rows(groups: Iterable[Group]) -> list[Row]:
    """What is drawn, run by run, in long form."""
    return [
        {"task": run.task, "agent": run.variant.agent, "head": run.variant.head, "normalizer": run.variant.normalizer,
         "settings": run.setting, "seed": run.seed, "frame": frame, "quantity": name, "value": value}
        for group in groups
        for i, run in enumerate(group.runs)
        for name, series in group.quantities.items()
        for frame, value in series[i].values.items()
    ]  # fmt: skip
