"""From runs to scores: the cells of tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from drq_sn.report.curves import mean_and_error
from drq_sn.report.published import ReleasedPoint, read_released
from drq_sn.report.types import PUBLISHED, Experiment, Run, Variant
from drq_sn.report.variants import sort_variants

SAME_TASK = {"cup_catch": "ball_in_cup_catch"}  # one task under two names
SUITE = "drq_sn.envs.suite.make_env"
OTHER_RETURNS = ("minatar_", "lift_", "place_", "reach_", "reassemble_", "stack_")  # games and manipulation tasks


def canonical(task: str) -> str:
    """The one name of a task that has two."""
    return SAME_TASK.get(task, task)


def has_suite_return(run: Run) -> bool:
    """Whether returns are between 0 and 1000, as on tasks of the control suite; only such runs are aggregated."""
    return run.options.get("env._target_", SUITE) == SUITE and not run.task.startswith(OTHER_RETURNS)


def released_curves(agent: str) -> dict[str, list[ReleasedPoint]]:
    """Canonical task -> points of the curve that the authors of `agent` released."""
    return {canonical(task): points for task, points in read_released(agent).items()}


def select_runs(experiment: Experiment, runs: Iterable[Run]) -> list[Run]:
    """Those of `runs` that `experiment` needs, whatever their seeds, with variants named as the paper's.

    They have one setting; see `with_one_setting`.
    """
    return with_one_setting(runs_of_tasks(experiment, runs))


def runs_of_tasks(experiment: Experiment, runs: Iterable[Run]) -> list[Run]:
    """Those of `runs` with tasks and choices of `experiment`, at whatever setting."""
    tasks = {canonical(task) for task in experiment.tasks}
    return [run for run in runs if run.task in tasks and run.variant.choices in experiment.choices]


def with_one_setting(runs: Iterable[Run]) -> list[Run]:
    """Those of `runs` at the published setting, or at another one if all have it, with variants of choices alone."""
    settings: dict[str, list[Run]] = {}
    for run in runs:
        settings.setdefault(run.setting, []).append(replace(run, variant=run.variant.choices))
    return settings.get(PUBLISHED) or (next(iter(settings.values())) if len(settings) == 1 else [])


def common_frame(runs: Iterable[Run], limit: float = math.inf) -> float | None:
    """The largest frame up to `limit` that any of `runs` was evaluated at; None if there is none."""
    return max((frame for run in runs for frame in run.evaluations if frame <= limit), default=None)


@dataclass(frozen=True)
class Cell:
    """The seeds of one task and variant at one frame."""

    task: str  # as its table names it
    variant: Variant  # what was trained
    frame: float | None  # where scores are read; None without runs
    runs: tuple[Run, ...]  # those that count, by seed
    scores: tuple[float, ...]  # mean evaluation return of each
    left_out: tuple[Run, ...]  # runs without a score there

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN without any."""
        return mean_and_error(self.scores)[0]

    @property
    def error(self) -> float:
        """Standard error, sample sd / sqrt(n); NaN below two seeds."""
        return mean_and_error(self.scores)[1]

    @property
    def sd(self) -> float:
        """Sample standard deviation; NaN below two seeds."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan

    @property
    def diverged(self) -> tuple[Run, ...]:
        """The runs that had diverged by then, whose last evaluation is carried forward."""
        return tuple(run for run in self.runs if self.frame not in run.evaluations)


def fill_cell(runs: Sequence[Run], task: str, variant: Variant, frame: float | None) -> Cell:
    """The cell of `task` and `variant` at `frame`, from among `runs`."""
    members = [run for run in runs if run.task == canonical(task) and run.variant == variant]
    scores = [
        (run, None if frame is None else run.returns.value_at(frame)) for run in sorted(members, key=lambda r: r.seed)
    ]
    counted = [(run, score) for run, score in scores if score is not None]
    left_out = tuple(run for run, score in scores if score is None)
    return Cell(task, variant, frame, tuple(run for run, _ in counted), tuple(score for _, score in counted), left_out)


def experiment_cells(experiment: Experiment, runs: Iterable[Run], frame: float | None = None) -> list[Cell]:
    """A cell for every task and variant of `experiment`, from among `runs`.

    All are at `frame`, or at the largest within the experiment that any run was evaluated at.
    """
    selected = select_runs(experiment, runs)
    frame = common_frame(selected, experiment.num_train_frames) if frame is None else frame
    return [fill_cell(selected, task, variant, frame) for task in experiment.tasks for variant in experiment.choices]


def group_by_variant(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of one task and variant together: tasks by name, variants in the order of tables."""
    variants = sort_variants(run.variant for run in runs)
    pairs = [(task, variant) for task in sorted({run.task for run in runs}) for variant in variants]
    groups = [[run for run in runs if (run.task, run.variant) == pair] for pair in pairs]
    return [members for members in groups if members]


def all_cells(runs: Sequence[Run], frame: float | None = None) -> list[Cell]:
    """A cell for every task and variant in `runs`.

    They are at `frame`, or each at the last that any of its seeds was evaluated at.
    """
    return [
        fill_cell(group, group[0].task, group[0].variant, common_frame(group) if frame is None else frame)
        for group in group_by_variant(runs)
    ]
