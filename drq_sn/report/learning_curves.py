"""Learning curves: seed averages of each variant's return, one panel per task (Bjorck et al. 2021, Figures 1, 2, 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drq_sn.report.curves import Axis, Panel, draw
from drq_sn.report.style import save_figure
from drq_sn.report.table_formats import format_frames
from drq_sn.report.types import Figure, ReleasedPoint, Run, Variant


def learning_curves(
    name: str,
    runs: Sequence[Run],
    tasks: Sequence[str],
    variants: Sequence[Variant],
    released: Mapping[str, Sequence[ReleasedPoint]],
    last_frame: float,
) -> Figure:
    """Learning curves, one panel per task.

    Args:
        name: of the figure's files.
        runs: those of other tasks and variants are ignored.
        tasks: of the panels, in their order.
        variants: of the curves, in the order of the legend.
        released: task -> points of the original authors.
        last_frame: where the axis ends.
    """
    panels = task_panels(runs, tasks, variants, released)
    labels = ", ".join(dict.fromkeys(label for panel in panels for label in panel.groups)) or "no variant"
    alt = (
        f"Learning curves of {labels} up to {format_frames(last_frame)}: mean evaluation return over seeds, "
        "± one standard error, one panel per task."
    )
    return save_figure(name, alt, draw(panels, Axis(last_frame), "evaluation return"))


def task_panels(
    runs: Sequence[Run],
    tasks: Sequence[str],
    variants: Sequence[Variant],
    released: Mapping[str, Sequence[ReleasedPoint]],
) -> list[Panel]:
    """A panel per task; variants without runs there are left out."""
    panels = []
    for task in tasks:
        groups = {
            label: [run.returns for run in runs if (run.task, run.variant) == (task, variant)]
            for variant, label in label_variants(variants).items()
        }
        present = {label: series for label, series in groups.items() if series}
        panels.append(Panel(task, present, is_return=True, released=released.get(task, ())))
    return panels


def label_variants(variants: Sequence[Variant]) -> dict[Variant, str]:
    """Variant -> its label in legends, with the agent if there are several."""
    several = len({variant.agent for variant in variants}) > 1
    return {variant: f"{variant.agent} {variant.label}" if several else variant.label for variant in variants}
