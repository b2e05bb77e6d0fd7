"""The paper's Tables 1 and 2 with our numbers beside the published ones, and a table of all runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drq_sn.report.published import TABLE1, TABLE2, ReleasedPoint, Reported, read_scores
from drq_sn.report.scores import Cell, Setting, canonical, common_frame, fill_cell, released_curves, select_runs
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


class ScoreTable:
    """Table 1 or 2 for the runs of one setting.

    Args:
        plan: its tasks and variants; its name says which table.
        setting: the runs.
        frame: where scores are read; None for the largest that any of its runs was evaluated at.
    """

    def __init__(self, plan: Plan, setting: Setting, frame: float | None = None) -> None:
        self.plan, self.setting, self.source = plan, setting, SOURCES[plan.name]
        self.runs = select_runs(plan, setting.runs)
        self.frame = common_frame(self.runs, plan.num_train_frames) if frame is None else frame
        self.cells = [fill_cell(self.runs, t, variant, self.frame) for t in plan.tasks for variant in plan.variants]
        self._paper = read_scores(self.source.file)
        curves = released_curves(plan.agent)
        self._released_frame = PAPER_FRAME if self.frame is None else self.frame
        self._released = {task: self._released_point(curves.get(canonical(task), ())) for task in plan.tasks}

    def table(self) -> Table:
        """As the paper lays it out: tasks by variants, the paper's score after each of ours."""
        columns = ["task", *(title for v in self.plan.variants for title in (v.label, f"{v.label}, paper"))]
        columns += ["Dreamer, paper"] * self.source.has_dreamer + [self._released_title]
        rows = []
        for task in self.plan.tasks:
            cells = [cell for cell in self.cells if cell.task == task]
            row = [text for c in cells for text in (format_cell(c), self._format_reported(task, *c.variant[1:]))]
            row += [self._format_reported(task, DREAMER, "")] * self.source.has_dreamer
            rows.append([task, *row, format_released(self._released[task])])
        name = f"{self.plan.name}{self.setting.suffix}"
        return Table(name, columns, rows, self._notes(), CSV_FIELDS, self._records())

    def _records(self) -> list[Row]:
        """One per task and variant; the released curve beside the variant it was made with."""
        released_variant = Variant(self.plan.agent, RELEASED_HEAD, "none")
        rows = []
        for cell in self.cells:
            row = _cell_row(cell) | self._reported_row(self._reported(cell.task, *cell.variant[1:]))
            point = self._released[cell.task]
            if point is not None and cell.variant == released_variant:
                row |= {"released_mean": point.mean, "released_sd": point.sd, "released_n": point.num_seeds}
            rows.append(row)
        dreamer = [(task, self._reported(task, DREAMER, "")) for task in self.plan.tasks if self.source.has_dreamer]
        return rows + [{"task": t, "variant": "Dreamer"} | self._reported_row(score) for t, score in dreamer if score]

    def _released_point(self, points: Iterable[ReleasedPoint]) -> ReleasedPoint | None:
        return next((point for point in points if point.frame == self._released_frame), None)

    def _reported(self, task: str, head: str, normalizer: str) -> Reported | None:
        return self._paper.get((task, head, normalizer))

    def _reported_row(self, score: Reported | None) -> Row:
        return {"paper_mean": score and score.mean, "paper_spread": score and score.spread}

    def _format_reported(self, task: str, head: str, normalizer: str) -> str:
        score = self._reported(task, head, normalizer)
        return NO_VALUE if score is None else format_mean(score.mean, score.spread, self.source.digits)

    @property
    def _released_title(self) -> str:
        return f"{agent_title(self.plan.agent)}'s released curve"

    def _notes(self) -> list[str]:
        at, paper = format_frame(self.frame), format_frame(PAPER_FRAME)
        ours = f"Our columns: mean ± standard error (sd, seeds) of the evaluation return at {at} frames."
        notes = ["No runs yet." if self.frame is None else ours, *self.source.notes]
        notes.append(
            f"{self._released_title}: by the original authors, with {RELEASED_HEAD} heads, at "
            f"{format_frame(self._released_frame)} frames: mean (sd, seeds). All published curves were made before "
            "MuJoCo 3.12 changed how frames look."
        )
        if self.frame not in (None, PAPER_FRAME):
            notes.append(f"Ours are at {at} frames, the paper's at {paper}: not the same training.")
        return [*notes, *diverged_notes(self.cells), *self.setting.description]


def format_cell(cell: Cell) -> str:
    """`853.2 ± 12.1 (38.3, 10)`, and how many seeds diverged."""
    if not cell.scores:
        return NO_VALUE
    diverged = f" †{len(cell.diverged)}" if cell.diverged else ""
    return f"{format_mean(cell.mean, cell.error)} ({format_number(cell.sd)}, {len(cell.scores)}){diverged}"


def format_released(point: ReleasedPoint | None) -> str:
    """`903.2 (84.1, 10)`."""
    return NO_VALUE if point is None else f"{format_number(point.mean)} ({format_number(point.sd)}, {point.num_seeds})"


def diverged_notes(cells: Iterable[Cell]) -> list[str]:
    """One line with the seeds that diverged, if any did."""
    places = []
    for cell in (cell for cell in cells if cell.diverged):
        seeds = ", ".join(f"seed {run.seed} at frame {format_frame(run.end_frame)}" for run in cell.diverged)
        places.append(f"{cell.variant.label} on {cell.task} {seeds}")
    rule = "† training diverged; the last evaluation is carried forward, as in the paper"
    return [f"{rule}: {'; '.join(places)}."] if places else []


def _cell_row(cell: Cell) -> Row:
    row: Row = {"task": cell.task, "variant": cell.variant.label, "n": len(cell.scores)}
    if cell.scores:
        row |= {"mean": cell.mean, "se": cell.error, "sd": cell.sd, "num_diverged": len(cell.diverged),
                "frame": cell.frame}  # fmt: skip
    return row


def all_runs_table(cells: Sequence[tuple[Setting, Cell]]) -> Table:
    """Every task and variant that was trained."""
    columns = ("task", "agent", "variant", "frame", "return", "settings")
    lines = [
        (c.task, agent_title(c.variant.agent), c.variant.label, format_frame(c.frame), format_cell(c), setting.name)
        for setting, c in cells
    ]
    records = [_cell_row(cell) | {"agent": cell.variant.agent, "settings": setting.name} for setting, cell in cells]
    notes = [
        "return: mean ± standard error (sd, seeds), at the last frame that any seed of the row was evaluated at; "
        "compare rows at equal frames and settings only.",
        *diverged_notes(cell for _, cell in cells),
        *(
            line
            for setting in {setting.number: setting for setting, _ in cells}.values()
            for line in setting.description
        ),
    ]
    return Table("all_runs", columns, lines, notes, ALL_FIELDS, records)
