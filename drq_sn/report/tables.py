"""The paper's Tables 1 and 2 with our numbers beside the published ones, and a table of all runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drq_sn.report.published import TABLE1, TABLE2, ReleasedPoint, Reported, read_scores
from drq_sn.report.scores import Cell, Setting, canonical, released_curves
from drq_sn.report.table_formats import NO_VALUE, format_frame, format_mean, format_number
from drq_sn.report.types import Plan, Row, Table, Variant, agent_title

PAPER_FRAME = 500_000
CSV_FIELDS = ("task", "variant", "mean", "se", "sd", "n", "num_diverged", "frame", "paper_mean", "paper_spread",
              "released_mean", "released_sd", "released_n")  # fmt: skip
ALL_FIELDS = ("settings", "task", "agent", "variant", "mean", "se", "sd", "n", "num_diverged", "frame")
RELEASED_HEAD = "mlp2"  # of the original authors' agents
DREAMER = "dreamer"


class Source(NamedTuple):
    """A table of the paper.

    Attributes:
        file: its numbers.
        digits: printed after the point.
        has_dreamer: whether it has a column of Dreamer's scores.
        notes: what a reader must know of it.
    """

    file: str
    digits: int
    has_dreamer: bool
    notes: tuple[str, ...]


PAPER = f"paper: Bjorck et al. (2021) at {format_frame(PAPER_FRAME)} frames, 10 seeds; its spreads "
SOURCES = {
    "table1": Source(TABLE1, 2, False, (
        f"{PAPER}look like standard errors.",
        'The paper prints "cartpole sparse", read here as cartpole_balance_sparse.')),
    "table2": Source(TABLE2, 1, True, (
        f"{PAPER}are standard deviations.", "Dreamer: as that paper reports it.")),
}  # fmt: skip


def score_table(plan: Plan, setting: Setting, cells: Sequence[Cell]) -> Table:
    """Table 1 or 2 for one setting, as the paper lays it out: tasks by variants, its scores beside ours.

    Args:
        plan: its name says which table.
        setting: of the runs.
        cells: one per task and variant of `plan`, all at one frame.
    """
    source, frame = SOURCES[plan.name], cells[0].frame
    released_frame = PAPER_FRAME if frame is None else frame
    paper, released = read_scores(source.file), released_curves(plan.agent)
    released_variant = Variant(plan.agent, RELEASED_HEAD, "none")
    columns = ["task", *(title for v in plan.variants for title in (v.label, f"{v.label}, paper"))]
    columns += ["Dreamer, paper"] * source.has_dreamer + [f"{agent_title(plan.agent)}'s released curve"]
    lines, records, dreamer_records = [], [], []
    for task in plan.tasks:
        points = released.get(canonical(task), ())
        point = next((point for point in points if point.frame == released_frame), None)
        line = [task]
        for cell in (cell for cell in cells if cell.task == task):
            score = paper.get((task, cell.variant.head, cell.variant.normalizer))
            line += [format_cell(cell), _format_reported(score, source.digits)]
            record = _cell_record(cell) | _reported_record(score)
            if point is not None and cell.variant == released_variant:
                record |= {"released_mean": point.mean, "released_sd": point.sd, "released_n": point.num_seeds}
            records.append(record)
        if source.has_dreamer:
            score = paper.get((task, DREAMER, ""))
            line.append(_format_reported(score, source.digits))
            dreamer_records.append({"task": task, "variant": "Dreamer"} | _reported_record(score))
        lines.append([*line, _format_released(point)])
    notes = [*_frame_notes(plan, frame), *source.notes, *diverged_notes(cells), *setting.description]
    return Table(f"{plan.name}{setting.suffix}", columns, lines, notes, CSV_FIELDS, records + dreamer_records)


def _frame_notes(plan: Plan, frame: float | None) -> list[str]:
    """What is at which frame."""
    ours, paper = format_frame(frame), format_frame(PAPER_FRAME)
    released = (
        f"{agent_title(plan.agent)}'s released curve: by the original authors, with {RELEASED_HEAD} heads, at "
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


def _format_released(point: ReleasedPoint | None) -> str:
    return f"{format_number(point.mean)} ({format_number(point.sd)}, {point.num_seeds})" if point else NO_VALUE


def format_cell(cell: Cell) -> str:
    """`853.2 ± 12.1 (38.3, 10)`, and how many seeds diverged."""
    if not cell.scores:
        return NO_VALUE
    diverged = f" †{len(cell.diverged)}" if cell.diverged else ""
    return f"{format_mean(cell.mean, cell.error)} ({format_number(cell.sd)}, {len(cell.scores)}){diverged}"


def diverged_notes(cells: Iterable[Cell]) -> list[str]:
    """One line with the seeds that diverged, if any did."""
    places = []
    for cell in (cell for cell in cells if cell.diverged):
        seeds = ", ".join(f"seed {run.seed} at frame {format_frame(run.end_frame)}" for run in cell.diverged)
        places.append(f"{cell.variant.label} on {cell.task} {seeds}")
    rule = "† training diverged; the last evaluation is carried forward, as in the paper"
    return [f"{rule}: {'; '.join(places)}."] if places else []


def _cell_record(cell: Cell) -> Row:
    record: Row = {"task": cell.task, "variant": cell.variant.label, "n": len(cell.scores)}
    if cell.scores:
        record |= {"mean": cell.mean, "se": cell.error, "sd": cell.sd, "num_diverged": len(cell.diverged),
                   "frame": cell.frame}  # fmt: skip
    return record


def all_runs_table(settings: Sequence[Setting], cells: Sequence[Sequence[Cell]]) -> Table:
    """Every task and variant that was trained.

    Args:
        settings: all of them.
        cells: those of each setting.
    """
    lines, records = [], []
    for setting, members in zip(settings, cells, strict=True):
        for cell in members:
            variant = cell.variant
            lines.append((cell.task, agent_title(variant.agent), variant.label, format_frame(cell.frame),
                          format_cell(cell), setting.name))  # fmt: skip
            records.append(_cell_record(cell) | {"agent": variant.agent, "settings": setting.name})
    notes = [
        "return: mean ± standard error (sd, seeds), at the last frame that any seed of the row was evaluated at; "
        "compare rows at equal frames and settings only.",
        *diverged_notes(cell for members in cells for cell in members),
        *(line for setting in settings for line in setting.description),
    ]
    columns = ("task", "agent", "variant", "frame", "return", "settings")
    return Table("all_runs", columns, lines, notes, ALL_FIELDS, records)
