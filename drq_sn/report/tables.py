"""The paper's Tables 1 and 2 with our numbers beside the published ones, and a table of all runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from drq_sn.report.published import RELEASED_HEAD, TABLE1, TABLE2, Reported, read_scores
from drq_sn.report.scores import Cell, canonical, released_curves
from drq_sn.report.table_formats import NO_VALUE, format_frame, format_mean, format_number
from drq_sn.report.types import PUBLISHED, Experiment, Row, Run, Table, Variant, agent_title
from drq_sn.report.variants import describe_settings, label_variants

PAPER_FRAME = 500_000
CSV_FIELDS = ("task", "variant", "mean", "se", "sd", "n", "num_diverged", "frame", "paper_mean", "paper_spread",
              "released_mean", "released_sd", "released_n")  # fmt: skip
ALL_FIELDS = ("settings", "task", "agent", "variant", "mean", "se", "sd", "n", "num_diverged", "frame")
DREAMER = "dreamer"
LATEX_CAPTION = "Evaluation return: mean and standard error over seeds"


class Source(NamedTuple):
    """A table of the paper."""

    file: str  # its numbers
    digits: int  # printed after the point
    has_dreamer: bool  # whether it has a column of Dreamer's scores
    notes: tuple[str, ...]  # what a reader must know of it


PAPER = f"paper: Bjorck et al. (2021) at {format_frame(PAPER_FRAME)} frames, 10 seeds; its spreads "
SOURCES = {
    "table1": Source(TABLE1, 2, False, (
        f"{PAPER}look like standard errors.",
        'The paper prints "cartpole sparse", read here as cartpole_balance_sparse.')),
    "table2": Source(TABLE2, 1, True, (
        f"{PAPER}are standard deviations.", "Dreamer: as that paper reports it.")),
}  # fmt: skip


def score_table(experiment: Experiment, cells: Sequence[Cell]) -> Table:
    """Table 1 or 2 as the paper lays it out: tasks by variants, its scores beside our `cells`, all at one frame."""
    source, frame = SOURCES[experiment.name], cells[0].frame
    setting = next((run.setting for cell in cells for run in cell.runs), PUBLISHED)  # all runs have one
    released_frame = PAPER_FRAME if frame is None else frame
    paper, released = read_scores(source.file), released_curves(experiment.agent)
    released_variant = Variant(experiment.agent, RELEASED_HEAD, "none")
    columns = ["task", *(title for v in experiment.choices for title in (v.label, f"{v.label}, paper"))]
    columns += ["Dreamer, paper"] * source.has_dreamer + [f"{agent_title(experiment.agent)}'s released curve"]
    lines, narrow, best, records, dreamer_records = [], [], set(), [], []
    for row, task in enumerate(experiment.tasks):
        points = released.get(canonical(task), ())
        point = next((point for point in points if point.frame == released_frame), None)
        line, short = [task], [task]
        members = [cell for cell in cells if cell.task == task]
        for column, cell in enumerate(members):
            score = paper.get((task, cell.variant.head, cell.variant.normalizer))
            reported = _format_reported(score, source.digits)
            line += [format_cell(cell), reported]
            short += [format_short_cell(cell), reported]
            best |= {(row, 1 + 2 * column)} if cell in best_cells(members) else set()
            record = cell_record(cell) | _reported_record(score)
            if point is not None and cell.variant == released_variant:
                record |= {"released_mean": point.mean, "released_sd": point.sd, "released_n": point.num_seeds}
            records.append(record)
        if source.has_dreamer:
            score = paper.get((task, DREAMER, ""))
            line.append(_format_reported(score, source.digits))
            short.append(line[-1])
            dreamer_records.append({"task": task, "variant": "Dreamer"} | _reported_record(score))
        curve = f"{format_number(point.mean)} ({format_number(point.sd)}, {point.num_seeds})" if point else NO_VALUE
        lines.append([*line, curve])
        narrow.append([*short, curve])
    notes = [*_frame_notes(experiment, frame), *source.notes, *diverged_notes(cells)]
    details = describe_settings(run for cell in cells for run in cell.runs)
    caption = f"{LATEX_CAPTION}, at {format_frame(frame)} frames, beside the results of Bjorck et al. (2021)."
    if setting != PUBLISHED:
        notes.append(f"Ours: {setting}, not the paper's setting.")
        caption += f" {notes[-1]}"
    return Table(
        experiment.name, columns, lines, notes, CSV_FIELDS, records + dreamer_records, details, frozenset(best),
        caption, narrow,
    )  # fmt: skip


def _frame_notes(experiment: Experiment, frame: float | None) -> list[str]:
    """What is at which frame."""
    ours, paper = format_frame(frame), format_frame(PAPER_FRAME)
    released = (
        f"{agent_title(experiment.agent)}'s released curve: by the original authors, with {RELEASED_HEAD} heads, at "
        f"{format_frame(PAPER_FRAME if frame is None else frame)} frames: mean (sd, seeds). All published curves were "
        "made before MuJoCo 3.12 changed how frames look."
    )
    if frame is None:
        return ["No runs yet.", released]
    notes = [f"Our columns: mean ± standard error (sd, seeds) of the evaluation return at {ours} frames.", released]
    if frame != PAPER_FRAME:
        notes.append(f"Ours are at {ours} frames, the paper's at {paper}: not the same training.")
    return notes


def _reported_record(score: Reported | None) -> Row:
    return {"paper_mean": score.mean, "paper_spread": score.spread} if score else {}


def _format_reported(score: Reported | None, digits: int) -> str:
    return format_mean(score.mean, score.spread, digits) if score else NO_VALUE


def format_cell(cell: Cell, digits: int = 1) -> str:
    """`853.2 ± 12.1 (38.3, 10)`, of one seed `853.2 (1 seed)`, and how many seeds diverged."""
    several = len(cell.scores) > 1
    spread = f" ({format_number(cell.sd, digits)}, {len(cell.scores)})" if several else " (1 seed)"
    return format_short_cell(cell, digits, spread)


def diverged_notes(cells: Iterable[Cell]) -> list[str]:
    """One line with the seeds that diverged, if any did."""
    places = []
    for cell in (cell for cell in cells if cell.diverged):
        seeds = ", ".join(f"seed {run.seed} at frame {format_frame(run.end_frame)}" for run in cell.diverged)
        places.append(f"{cell.variant.label} on {cell.task} {seeds}")
    rule = "† training diverged; the last evaluation is carried forward, as in the paper"
    return [f"{rule}: {'; '.join(places)}."] if places else []


def cell_record(cell: Cell) -> Row:
    """A row of a CSV file."""
    record: Row = {"task": cell.task, "variant": cell.variant.label, "n": len(cell.scores)}
    if cell.scores:
        record |= {"mean": cell.mean, "se": cell.error, "sd": cell.sd, "num_diverged": len(cell.diverged),
                   "frame": cell.frame}  # fmt: skip
    return record


def format_short_cell(cell: Cell, digits: int = 1, spread: str = "") -> str:
    """`853.2 ± 12.1`, then `spread`, and how many seeds diverged; one seed has no error."""
    if not cell.scores:
        return NO_VALUE
    mean = format_mean(cell.mean, cell.error, digits) if len(cell.scores) > 1 else format_number(cell.mean, digits)
    return mean + spread + (f" †{len(cell.diverged)}" if cell.diverged else "")


def best_cells(cells: Iterable[Cell]) -> list[Cell]:
    """Those with the highest mean among the cells at the largest frame, if these are two or more."""
    scored = [cell for cell in cells if cell.scores]
    last = max((cell.frame or 0.0 for cell in scored), default=0.0)
    compared = [cell for cell in scored if cell.frame == last]
    highest = max((cell.mean for cell in compared), default=0.0)
    return [cell for cell in compared if cell.mean == highest] if len(compared) > 1 else []


def all_runs_table(runs: Sequence[Run], cells: Sequence[Cell]) -> Table:
    """Tasks by variants, or variants by tasks where these are fewer."""
    labels, tasks = label_variants(runs), sorted({cell.task for cell in cells})
    by_place = {(cell.task, cell.variant): cell for cell in cells}
    best = [cell for task in tasks for cell in best_cells(cell for cell in cells if cell.task == task)]
    last = max((cell.frame or 0.0 for cell in cells), default=0.0)
    grid: list[list[Cell | None]]
    if len(labels) > len(tasks):
        names, columns = list(labels.values()), ["variant", *tasks]
        grid = [[by_place.get((task, variant)) for task in tasks] for variant in labels]
    else:
        names, columns = tasks, ["task", *labels.values()]
        grid = [[by_place.get((task, variant)) for variant in labels] for task in tasks]

    def lines(form: Callable[[Cell], str]) -> list[list[str]]:
        return [[name, *(_at_frame(cell, form, last) for cell in row)] for name, row in zip(names, grid, strict=True)]

    records = [
        cell_record(cell) | {"agent": cell.variant.agent, "settings": (*cell.runs, *cell.left_out)[0].setting}
        for cell in cells
    ]
    notes = [
        f"Evaluation return: mean ± standard error (sd, seeds), at frame {format_frame(last)}; where no seed was "
        "evaluated there, at the frame after @. Compare cells at equal frames only.",
        *diverged_notes(cells),
    ]
    caption = f"{LATEX_CAPTION}, at {format_frame(last)} frames unless another frame is given after @."
    return Table(
        "all_runs", columns, lines(format_cell), notes, ALL_FIELDS, records, describe_settings(runs),
        frozenset((i, j) for i, row in enumerate(grid) for j, cell in enumerate(row, start=1) if cell in best),
        caption, lines(format_short_cell),
    )  # fmt: skip


def _at_frame(cell: Cell | None, form: Callable[[Cell], str], last: float) -> str:
    if cell is None:
        return NO_VALUE
    return form(cell) + (f" @ {format_frame(cell.frame)}" if cell.frame is not None and cell.frame != last else "")
