"""From runs to numbers: which evaluation counts, and what the seeds of a cell say together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drq_sn.report.curves import mean_and_error
from drq_sn.report.published import read_released
from drq_sn.report.types import ReleasedPoint, ScoredRun, Variant
from drq_sn.runs.reader import EVAL, Run

RETURN = "episode_return_mean"
SAME_TASK = {"cup_catch": "ball_in_cup_catch"}  # one task under two names
OF_PUBLISHED = " (published: "
SETTINGS_UNKNOWN = "settings unknown"
HEADS, NORMALIZERS = ("mlp2", "mlp4", "modern2", "modern4"), ("none", "spectral")  # the paper's, in its order


def canonical(task: str) -> str:
    """The one name of a task that has two."""
    return SAME_TASK.get(task, task)


def score_run(
    run: Run, variant: Variant, departures: Sequence[str], record: Mapping[str, Any], options: Mapping[str, Any]
) -> ScoredRun:
    """`run` with its finite evaluations, under its task's canonical name; see `ScoredRun` for the arguments.

    Where a frame stands in `eval.csv` more than once, the last row counts.

    Raises:
        InvalidInput: for a cell of `eval.csv` that is no number.
    """
    log = run.logs.get(EVAL)
    values = {frame: mean for frame, (mean,) in log.values(RETURN)} if log else {}
    finite = {frame: value for frame, value in sorted(values.items()) if math.isfinite(value)}
    return ScoredRun(replace(run, task=canonical(run.task)), variant, tuple(departures), record, finite, options)


def released_curves(agent: str) -> dict[str, list[ReleasedPoint]]:
    """Canonical task -> points of the curve that the authors of `agent` released."""
    return {
        canonical(task): [ReleasedPoint(*point) for point in points] for task, points in read_released(agent).items()
    }


@dataclass(frozen=True)
class Setting:
    """Runs that may be compared: they depart from the published setting in the same options, or in none.

    Attributes:
        number: 1 for the published setting, which is there even without runs.
        departures: of all its runs, an option once; what is published may depend on the task.
        runs: each seed of a task and variant once.
    """

    number: int
    departures: tuple[str, ...]
    runs: tuple[ScoredRun, ...]

    @property
    def name(self) -> str:
        """As headings and tables write it."""
        return "published setting" if self.number == 1 else f"settings {self.number}"

    @property
    def suffix(self) -> str:
        """Of the names of its files."""
        return "" if self.number == 1 else f"_settings{self.number}"


def group_by_setting(runs: Sequence[ScoredRun]) -> list[Setting]:
    """Settings in the order of `runs`, the published one first."""
    groups: dict[tuple[str, ...], list[ScoredRun]] = {(): []}
    for run in runs:
        groups.setdefault(setting_of(run), []).append(run)
    return [
        Setting(number, _merged(members), tuple(members)) for number, members in enumerate(groups.values(), start=1)
    ]


def setting_of(run: ScoredRun) -> tuple[str, ...]:
    """The departures without what is published, which for some options depends on the task."""
    return tuple(departure.split(OF_PUBLISHED)[0] for departure in run.departures)


def _merged(runs: Iterable[ScoredRun]) -> tuple[str, ...]:
    published: dict[str, dict[str, None]] = {}
    for departure in (departure for run in runs for departure in run.departures):
        own, _, value = departure.partition(OF_PUBLISHED)
        published.setdefault(own, {})[value.removesuffix(")")] = None
    return tuple(
        f"{own}{OF_PUBLISHED}{' or '.join(values)})" if any(values) else own for own, values in published.items()
    )


def once_per_seed(runs: Sequence[ScoredRun]) -> tuple[list[ScoredRun], list[tuple[ScoredRun, ScoredRun]]]:
    """Each seed once: of several folders the one with most evaluations, the first of these.

    Returns:
        The runs that count, and pairs of one that does not and the one that counts in its place.
    """
    best: dict[tuple[Any, ...], ScoredRun] = {}
    for run in runs:
        key = identity(run)
        if key not in best or len(run.evaluations) > len(best[key].evaluations):
            best[key] = run
    dropped = [(run, best[identity(run)]) for run in runs if best[identity(run)] is not run]
    return list(best.values()), dropped


def identity(run: ScoredRun) -> tuple[Any, ...]:
    """What two runs that must not both count share."""
    return setting_of(run), run.variant, run.run.task, run.run.seed


def common_frame(runs: Iterable[ScoredRun], limit: float = math.inf) -> float | None:
    """The largest frame up to `limit` that any of `runs` was evaluated at; None where there is none."""
    return max((frame for run in runs for frame in run.evaluations if frame <= limit), default=None)


@dataclass(frozen=True)
class Cell:
    """What the seeds of one task and variant say together at one frame.

    Attributes:
        task: as its table names it.
        variant: what was trained.
        frame: where the scores were taken; None without runs.
        runs: those that count, by seed.
        scores: mean evaluation return of each.
        left_out: runs that were not evaluated there.
    """

    task: str
    variant: Variant
    frame: float | None
    runs: tuple[ScoredRun, ...]
    scores: tuple[float, ...]
    left_out: tuple[ScoredRun, ...]

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
    def crashed(self) -> tuple[ScoredRun, ...]:
        """The runs that had crashed by then, whose last evaluation stands in."""
        return tuple(run for run in self.runs if self.frame not in run.evaluations)


def make_cell(runs: Sequence[ScoredRun], task: str, variant: Variant, frame: float | None) -> Cell:
    """The cell of `task` and `variant` at `frame`, from among `runs`."""
    members = [run for run in runs if run.run.task == canonical(task) and run.variant == variant]
    members.sort(key=lambda run: run.run.seed)
    scored = [(run, score) for run in members if frame is not None and (score := run.score(frame)) is not None]
    counted = {id(run) for run, _ in scored}
    left_out = tuple(run for run in members if id(run) not in counted)
    return Cell(task, variant, frame, tuple(run for run, _ in scored), tuple(score for _, score in scored), left_out)


def own_cells(runs: Sequence[ScoredRun]) -> list[Cell]:
    """A cell for every task and variant in `runs`, each at the last frame that any of its seeds was evaluated at."""
    tasks, variants = sorted({run.run.task for run in runs}), in_order(run.variant for run in runs)
    members = {
        (task, variant): [run for run in runs if (run.run.task, run.variant) == (task, variant)]
        for task in tasks
        for variant in variants
    }
    return [make_cell(own, *pair, common_frame(own)) for pair, own in members.items() if own]


def in_order(variants: Iterable[Variant]) -> list[Variant]:
    """Each variant once: the paper's heads and normalizers first, in its order, then others by name."""

    def place(names: tuple[str, ...], name: str) -> tuple[int, str]:
        return names.index(name) if name in names else len(names), name

    return sorted(set(variants), key=lambda v: (v.agent, place(HEADS, v.head), place(NORMALIZERS, v.normalizer)))
