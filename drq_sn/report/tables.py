"""The paper's Tables 1 and 2 with our numbers beside the published ones, and a table of whatever else was trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from drq_sn.report.published import TABLE1, TABLE2, Reported, read_scores
from drq_sn.report.score_formats import ABSENT, frames, number
from drq_sn.report.scores import Cell, Setting, canonical, common_frame, make_cell, released_curves
from drq_sn.report.types import Plan, ReleasedPoint, ScoredRun, Table, Variant

PAPER_FRAME = 500_000
CSV_FIELDS = ("task", "variant", "mean", "se", "sd", "n", "num_crashed", "frame", "paper_mean", "paper_spread",
              "released_mean", "released_sd", "released_n")  # fmt: skip
ALL_FIELDS = ("settings", "task", "agent", "variant", "mean", "se", "sd", "n", "num_crashed", "frame")
RELEASED_HEAD = "mlp2"  # of the original authors' agents

Row = dict[str, Any]


class Source(NamedTuple):
    """What the paper prints in a table.

    Attributes:
        file: its numbers.
        spread: what its spreads are.
        extra: a further column: the head's name in `file`, and its title.
        digits: that it gives.
        remark: what else a reader must know of it.
    """

    file: str
    spread: str
    extra: tuple[str, str] | None
    digits: int
    remark: str = ""


SPARSE = 'The paper prints "cartpole sparse", read here as cartpole_balance_sparse.'
SOURCES = {
    "table1": Source(TABLE1, "look like standard errors", None, 2, SPARSE),
    "table2": Source(TABLE2, "are standard deviations", ("dreamer", "Dreamer"), 1),
}


class ScoreTable:
    """Table 1 or 2 for the runs of one setting.

    Args:
        plan: which tasks and variants it has; its name says which table.
        setting: the runs.
        frame: where scores are taken; None takes the largest that any of its runs was evaluated at.
    """

    def __init__(self, plan: Plan, setting: Setting, frame: float | None = None) -> None:
        self.plan, self.setting, self.source = plan, setting, SOURCES[plan.name]
        self.runs = runs_of(plan, setting.runs)
        self.frame = common_frame(self.runs, plan.num_train_frames) if frame is None else frame
        self.cells = [
            make_cell(self.runs, task, variant, self.frame) for task in plan.tasks for variant in plan.variants
        ]
        self._paper = read_scores(self.source.file)
        curves = released_curves(plan.agent)
        at = self.frame if self.frame is not None else PAPER_FRAME
        self._released = {task: point_at(curves.get(canonical(task), ()), at) for task in plan.tasks}

    def table(self) -> Table:
        """As the paper lays it out: tasks by variants, the paper's figure after each of ours."""
        extra, digits = self.source.extra, self.source.digits
        columns = ["task", *(title for v in self.plan.variants for title in (v.label, f"{v.label}, paper"))]
        columns += [f"{extra[1]}, paper"] if extra else []
        rows = []
        for task in self.plan.tasks:
            own = [cell for cell in self.cells if cell.task == task]
            row = [task, *(part for c in own for part in (ours(c), reported(self._reported(task, c.variant), digits)))]
            row += [reported(self._paper.get((task, extra[0], "")), digits)] if extra else []
            rows.append([*row, released(self._released[task])])
        return Table(f"{self.plan.name}{self.setting.suffix}", [*columns, self._released_title()], rows, self._notes())

    def csv_rows(self) -> list[Row]:
        """One per task and variant; the released curve beside the heads it was made with."""
        return [
            _numbers(cell)
            | {"paper_mean": paper and paper.mean, "paper_spread": paper and paper.spread}
            | (_released_numbers(point) if point and self._is_as_released(cell.variant) else {})
            for cell in self.cells
            for paper, point in [(self._reported(cell.task, cell.variant), self._released[cell.task])]
        ] + self._extra_rows()

    def _extra_rows(self) -> list[Row]:
        if not self.source.extra:
            return []
        head, title = self.source.extra
        scores = {task: self._paper[task, head, ""] for task in self.plan.tasks if (task, head, "") in self._paper}
        return [
            {"task": t, "variant": title, "paper_mean": s.mean, "paper_spread": s.spread} for t, s in scores.items()
        ]

    def _reported(self, task: str, variant: Variant) -> Reported | None:
        return self._paper.get((task, variant.head, variant.normalizer))

    def _is_as_released(self, variant: Variant) -> bool:
        return variant == Variant(self.plan.agent, RELEASED_HEAD, "none")

    def _released_title(self) -> str:
        return f"{agent_title(self.plan.agent)}'s released curve"

    def _notes(self) -> list[str]:
        at = self.frame if self.frame is not None else PAPER_FRAME
        notes = [
            OURS.format(frames(self.frame)) if self.frame is not None else "No runs yet.",
            f"paper: Bjorck et al. (2021) at {frames(PAPER_FRAME)} frames, 10 seeds; its spreads {self.source.spread}.",
        ]
        if self.source.remark:
            notes.append(self.source.remark)
        if self.source.extra:
            notes.append(f"{self.source.extra[1]}: as that paper reports it.")
        notes.append(
            f"{self._released_title()}: by the original authors, with {RELEASED_HEAD} heads, at {frames(at)} frames: mean (sd, "
            "seeds). All published curves were made before MuJoCo 3.12 changed how frames look."
        )
        if self.frame is not None and self.frame != PAPER_FRAME:
            notes.append(
                f"Ours are at {frames(self.frame)} frames, the paper's at {frames(PAPER_FRAME)}: not the same training."
            )
        return notes + crash_notes(self.cells)


OURS = "Our columns: mean ± standard error (sd, seeds) of the evaluation return at {} frames."
CRASHES = "† learning crashed; the last evaluation before it is carried forward, as in the paper"


def runs_of(plan: Plan, runs: Iterable[ScoredRun]) -> list[ScoredRun]:
    """Those of `runs` that `plan` asks for, whatever their seeds."""
    tasks = {canonical(task) for task in plan.tasks}
    return [run for run in runs if run.run.task in tasks and run.variant in plan.variants]


def point_at(points: Iterable[ReleasedPoint], frame: float) -> ReleasedPoint | None:
    """The point that stands at `frame`."""
    return next((point for point in points if point.frame == frame), None)


def agent_title(agent: str) -> str:
    """As its authors write it."""
    return {"drq": "DrQ", "drqv2": "DrQ-v2"}.get(agent, agent)


def ours(cell: Cell) -> str:
    """`853.2 ± 12.1 (38.3, 10)`, and how many seeds crashed."""
    if not cell.scores:
        return ABSENT
    crashed = f" †{len(cell.crashed)}" if cell.crashed else ""
    return f"{number(cell.mean)} ± {number(cell.error)} ({number(cell.sd)}, {len(cell.scores)}){crashed}"


def reported(score: Reported | None, digits: int) -> str:
    """`884.6 ± 262.0`."""
    return ABSENT if score is None else f"{score.mean:.{digits}f} ± {score.spread:.{digits}f}"


def released(point: ReleasedPoint | None) -> str:
    """`903.2 (84.1, 10)`."""
    return ABSENT if point is None else f"{number(point.mean)} ({number(point.sd)}, {point.num_seeds})"


def crash_notes(cells: Sequence[Cell]) -> list[str]:
    """Which seeds crashed where, if any did."""
    crashed = []
    for cell in (cell for cell in cells if cell.crashed):
        places = [(run.run.seed, run.end_frame) for run in cell.crashed]
        where = ", ".join(f"seed {seed} at frame {frames(frame)}" for seed, frame in places)
        crashed.append(f"{cell.variant.label} on {cell.task} {where}")
    return [f"{CRASHES}: {'; '.join(crashed)}."] if crashed else []


def _numbers(cell: Cell) -> Row:
    numbers: Mapping[str, Any] = {}
    if cell.scores:
        numbers = {
            "mean": cell.mean,
            "se": cell.error,
            "sd": cell.sd,
            "num_crashed": len(cell.crashed),
            "frame": cell.frame,
        }
    return {"task": cell.task, "variant": cell.variant.label, "n": len(cell.scores), **numbers}


def _released_numbers(point: ReleasedPoint) -> Row:
    return {"released_mean": point.mean, "released_sd": point.sd, "released_n": point.num_seeds}


def all_cells(cells: Sequence[tuple[Setting, Cell]], name: str = "all_runs") -> tuple[Table, list[Row]]:
    """Every task and variant that was trained, as a table and as rows of CSV."""
    columns = ("task", "agent", "variant", "frame", "return", "settings")
    lines = [
        (c.task, agent_title(c.variant.agent), c.variant.label, frames(c.frame), ours(c), s.name) for s, c in cells
    ]
    rows = [_numbers(cell) | {"agent": cell.variant.agent, "settings": setting.name} for setting, cell in cells]
    notes = [
        "return: mean ± standard error (sd, seeds), at the last frame that any seed of the row was evaluated at; "
        "compare rows at equal frames and settings alone.",
        *crash_notes([cell for _, cell in cells]),
    ]
    return Table(name, columns, lines, notes), rows
