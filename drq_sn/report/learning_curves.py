"""Learning curves: seed averages of each variant's return, one panel per task (Bjorck et al. 2021, Figures 1, 2, 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from drq_sn.report.curves import Panel, draw
from drq_sn.report.published import ReleasedPoint
from drq_sn.report.scores import common_frame, has_suite_return
from drq_sn.report.style import save_figure
from drq_sn.report.table_formats import format_frame
from drq_sn.report.types import Figure, Run
from drq_sn.report.variants import label_variants


def learning_curves(
    name: str,
    runs: Sequence[Run],
    tasks: Sequence[str],
    released: Mapping[str, Sequence[ReleasedPoint]],
    limit: float = math.inf,
) -> Figure:
    """Learning curves of all variants in `runs`, one panel for each of `tasks` with runs.

    The axis ends at the last evaluation or divergence up to the frame `limit`. `released` has points of the original
    authors by task.
    """
    labels = label_variants(runs)
    diverged = [run.end_frame for run in runs if run.diverged and run.end_frame <= limit]
    last_frame = max([common_frame(runs, limit) or 0.0, *diverged])
    panels = task_panels(runs, tasks, released)
    alt = (
        f"Learning curves of {', '.join(labels.values())} up to frame {format_frame(last_frame)}: mean evaluation "
        "return over seeds, ± one standard error, one panel per task."
    )
    return save_figure(name, alt, draw(panels, last_frame, "evaluation return"))


def task_panels(
    runs: Sequence[Run], tasks: Sequence[str], released: Mapping[str, Sequence[ReleasedPoint]]
) -> list[Panel]:
    """A panel per task with runs, with a curve for each variant there; see `learning_curves`."""
    labels = label_variants(runs)
    panels = []
    for task in tasks:
        present = [run for run in runs if run.task == task]
        groups = {
            label: series
            for variant, label in labels.items()
            if (series := [run.returns for run in present if run.variant == variant])
        }
        if groups:
            is_return = all(map(has_suite_return, present))
            panels.append(Panel(task, groups, is_return=is_return, released=released.get(task, ())))
    return panels
