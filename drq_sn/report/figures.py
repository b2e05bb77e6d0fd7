"""The report's figures, drawn: learning curves, what happened inside the runs, and what all tasks say together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from drq_sn.report import aggregate_figure, learning_curves
from drq_sn.report.curves import FIGURE3, largest_norm
from drq_sn.report.dynamics_figure import PAPER_COLUMNS, save_images
from drq_sn.report.dynamics_figure import draw as draw_quantities
from drq_sn.report.scores import common_frame
from drq_sn.report.style import in_frames, looks, names
from drq_sn.report.types import Aggregates, Figure, ReleasedPoint, ScoredRun, Variant


def curves(
    name: str,
    runs: Sequence[ScoredRun],
    tasks: Sequence[str],
    variants: Sequence[Variant],
    released: Mapping[str, Sequence[ReleasedPoint]],
    last_frame: float,
) -> Figure:
    """Learning curves, a panel per task.

    Args:
        name: of the figure's files.
        runs: to average over seeds; those of other tasks and variants are passed over.
        tasks: of the panels, in their order.
        variants: of the curves, in the order of the legend.
        released: task -> points of the original authors.
        last_frame: where the curves end.
    """
    panels = learning_curves.panels_of(runs, tasks, variants)
    drawn = learning_curves.draw(panels, released, last_frame)
    return _figure(name, learning_curves.describe(panels, released, last_frame), save_images(drawn))


def dynamics(name: str, runs: Sequence[ScoredRun], variants: Sequence[Variant]) -> Figure:
    """Critic loss on the replay, return and gradient norms over frames (Bjorck et al. 2021, Figure 3).

    Args:
        name: of the figure's files.
        runs: to average over seeds; those of other variants are passed over. Several tasks have curves of their own.
        variants: in the order of the legend.
    """
    tasks = sorted({run.run.task for run in runs if run.variant in variants})
    groups: dict[str, list[ScoredRun]] = {}
    called = names(variants)
    for task in tasks:
        for variant, label in called.items():
            own = [run for run in runs if (run.run.task, run.variant) == (task, variant)]
            if own:
                groups[label if len(tasks) == 1 else f"{task}, {label}"] = own
    logs = {label: [run.run for run in own] for label, own in groups.items()}
    images = draw_quantities(FIGURE3, logs, PAPER_COLUMNS, looks(list(groups)), as_learning_curves=True)
    return _figure(name, _describe_dynamics(groups, tasks), images)


def _describe_dynamics(groups: Mapping[str, Sequence[ScoredRun]], tasks: Sequence[str]) -> str:
    last = common_frame(run for runs in groups.values() for run in runs) or 0.0
    lines = [f"Inside the runs on {', '.join(tasks) or 'no task'}: {', '.join(q.title for q in FIGURE3)}, over frames."]
    lines[0] += f" Returns, ± one standard error, are those at {in_frames(last)} where nothing else is said."
    for label, runs in groups.items():
        norms = {part: largest_norm([run.run for run in runs], part) for part in ("actor", "critic")}
        found = [f"largest {part} gradient norm {value:.3g}" for part, value in norms.items() if not math.isnan(value)]
        lines.append("; ".join([learning_curves.last_point(label, runs, last), *found]) + ".")
    return "\n".join(lines)


def aggregates(name: str, aggregates: Aggregates) -> Figure:
    """Interquartile means, probabilities of improvement and performance profiles, with their 95 % confidence intervals."""
    drawn = aggregate_figure.draw(aggregates)
    return _figure(name, aggregate_figure.describe(aggregates), save_images(drawn))


def _figure(name: str, alt: str, images: Mapping[str, Any]) -> Figure:
    return Figure(name, alt, images["svg"], images["png"])
