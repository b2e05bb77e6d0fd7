"""The experiments of Gogianu et al. (2021) on MinAtar: a table and learning curves of named variants."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from drq_sn.report.curves import Panel, draw
from drq_sn.report.learning_curves import learning_curves
from drq_sn.report.scores import Cell, common_frame, fill_cell, with_one_setting
from drq_sn.report.style import save_figure
from drq_sn.report.table_formats import format_frame, format_number
from drq_sn.report.tables import cell_record, diverged_notes, format_cell
from drq_sn.report.types import Experiment, Figure, Run, Section, Series, Table
from drq_sn.report.warnings import left_out_warnings
from drq_sn.runs.progress import format_count

RANDOM_RETURNS = {
    "minatar_asterix": 0.50,
    "minatar_breakout": 0.52,
    "minatar_freeway": 0.05,
    "minatar_seaquest": 0.09,
    "minatar_space_invaders": 2.86,
}
"""Mean return of the uniform policy, measured."""
FIELDS = ("variant", "task", "frame", "mean", "se", "sd", "n", "num_diverged", "normalized")
LEARNING_RATE = "lr"  # how the name of a learning rate begins
NORMALIZED = (
    "normalized: (return - random) / (best - random), mean over games, of variants with runs on all of them; random is "
    "the uniform policy's return, best the highest of one run in this table. It is our definition: that of the paper's "
    "figures is not given."
)


def comparison_section(experiment: Experiment, runs: Sequence[Run], frame: float | None = None) -> Section | None:
    """Table and curves of the runs of `experiment` among `runs`; None if there are none.

    The table is at `frame`, or at the last one within the experiment that any run was evaluated at.
    """
    found = _find_runs(experiment, runs)
    labelled = {
        label: [replace(run, variant=run.variant._replace(name=label)) for run in members]
        for label, each in found.items()
        if (members := with_one_setting(each))
    }
    if not labelled:
        return None
    selected = [run for members in labelled.values() for run in members]
    frame = common_frame(selected, experiment.num_train_frames) if frame is None else frame
    cells = {
        (label, task): fill_cell(members, task, members[0].variant, frame)
        for label, members in labelled.items()
        for task in experiment.tasks
    }
    warnings = [
        f"{experiment.name}: {label} has runs of different settings; "
        + ("those at other settings than the published one are left out" if label in labelled else "all are left out")
        for label, members in found.items()
        if len({run.setting for run in members}) > 1
    ]
    warnings += left_out_warnings(cells.values(), experiment.name)
    figures = [learning_curves(experiment.name, selected, experiment.tasks, {}, experiment.num_train_frames)]
    scored = {place: cell for place, cell in cells.items() if cell.scores}
    if scored and all(label.split()[-1].startswith(LEARNING_RATE) for label in labelled):
        figures.append(_by_learning_rate(experiment, scored))
    title = f"{experiment.name}: Gogianu et al. (2021) on MinAtar"
    return Section(title, (), warnings, [_table(experiment, cells, frame)], figures)


def _find_runs(experiment: Experiment, runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Label -> its runs, recognized by their `run_suffix`, for the labels that have some."""
    labels = {variant["run_suffix"]: name for variant, name in zip(experiment.variants, experiment.labels, strict=True)}
    labelled: dict[str, list[Run]] = {label: [] for label in experiment.labels}
    for run in runs:
        label = labels.get(str(run.options.get("run_suffix")))
        if label is not None and run.variant.agent == experiment.agent and run.task in experiment.tasks:
            labelled[label].append(run)
    return {label: members for label, members in labelled.items() if members}


def _table(experiment: Experiment, cells: Mapping[tuple[str, str], Cell], frame: float | None) -> Table:
    labels, tasks = list(dict.fromkeys(label for label, _ in cells)), list(dict.fromkeys(task for _, task in cells))
    best = {task: max((s for label in labels for s in cells[label, task].scores), default=0.0) for task in tasks}
    lines, records = [], []
    for label in labels:
        normalized = {task: _normalize(task, cells[label, task].mean, best[task]) for task in tasks}
        mean = format_number(statistics.fmean(normalized.values()), 2)  # NaN, a dash, without a score on every game
        lines.append([label, *(format_cell(cells[label, task], digits=2) for task in tasks), mean])
        records += [
            cell_record(cells[label, task]) | {"variant": label, "frame": frame, "normalized": normalized[task]}
            for task in tasks
        ]
    notes = [
        f"return at {format_frame(frame)} frames: mean ± standard error (sd, seeds).",
        NORMALIZED,
        *diverged_notes(cells.values()),
    ]
    caption = f"{experiment.name.replace('_', ' ')}: return on MinAtar, mean ± standard error (sd, seeds)."
    columns = ["variant", *tasks, "normalized"]
    return Table(experiment.name, columns, lines, notes, FIELDS, records, caption=caption)


def _normalize(task: str, score: float, best: float) -> float:
    random = RANDOM_RETURNS.get(task, 0.0)
    return (score - random) / (best - random) if best > random else float("nan")


def _by_learning_rate(experiment: Experiment, cells: Mapping[tuple[str, str], Cell]) -> Figure:
    """Final return over the learning rate, one curve for what else differs."""
    rates, groups = set(), dict[str, dict[str, dict[int, dict[float, float]]]]()
    for (label, task), cell in cells.items():
        *others, name = label.split()
        rate = float(name.removeprefix(LEARNING_RATE))
        rates.add(rate)
        by_seed = groups.setdefault(task, {}).setdefault(" ".join(others), {})
        for run, score in zip(cell.runs, cell.scores, strict=True):
            by_seed.setdefault(run.seed, {})[rate] = score
    panels = [
        Panel(task, {name: [Series(values) for values in by_seed.values()] for name, by_seed in named.items()})
        for task, named in groups.items()
    ]
    drawn = draw(panels, max(rates), "evaluation return", x_label="learning rate", x_ticks=sorted(rates))
    alt = f"Final return by learning rate of {format_count(len(panels), 'game')}, ± one standard error over seeds."
    return save_figure(f"{experiment.name}_by_lr", alt, drawn)
