"""What the parts of a report hand to one another: scored runs, tables, figures, sections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from drq_sn.runs.reader import CRASHED, Run


class Variant(NamedTuple):
    """What the paper compares: an agent with heads and a normalizer, by the names of their options."""

    agent: str
    head: str
    normalizer: str

    @property
    def label(self) -> str:
        """As tables and legends write it, without the agent: `modern4 + SN`."""
        short = {"none": "", "spectral": " + SN"}
        return self.head + short.get(self.normalizer, f" + {self.normalizer}")


@dataclass(frozen=True)
class Plan:
    """A table or figure of the paper: the runs it asks for.

    Attributes:
        name: such as `table1`; the command that trains its runs is `make table1`.
        agent: name of the agent's option.
        tasks: rows or panels, in the paper's order, as the paper's tables name them.
        variants: columns or curves.
        seeds: of every task and variant.
        num_train_frames: length of every run.
    """

    name: str
    agent: str
    tasks: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    num_train_frames: int


@dataclass(frozen=True)
class ScoredRun:
    """One run, recognized.

    Attributes:
        run: what its folder holds.
        variant: what was trained.
        departures: options in which it differs from the published setting of this variant and task, as
            `image_size=48 (published: 84)`; runs with different departures are never averaged.
        record: what `run.json` says.
        evaluations: frame -> mean return of an evaluation, in the order of frames, as logged.
        options: what the run was configured with, by dotted name: `env.image_size`.
    """

    run: Run
    variant: Variant
    departures: tuple[str, ...]
    record: Mapping[str, Any]
    evaluations: Mapping[float, float]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def crashed(self) -> bool:
        """Whether learning crashed."""
        return self.run.status == CRASHED

    @property
    def end_frame(self) -> float:
        """Where learning crashed, by the record, or else the last frame that is logged."""
        frame = self.record.get("frame") if self.crashed else None
        return frame if isinstance(frame, (int, float)) and math.isfinite(frame) else self.run.last_frame

    def score(self, frame: float) -> float | None:
        """Mean return of the evaluation at `frame`; the last one before it for a crashed run; None where there is none.

        The rule for crashed runs is the paper's (Bjorck et al. 2021, section 3.1).
        """
        if frame in self.evaluations:
            return self.evaluations[frame]
        earlier = [value for at, value in self.evaluations.items() if at < frame]
        return earlier[-1] if self.crashed and earlier else None


class Interval(NamedTuple):
    """An estimate and the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Aggregates:
    """What all tasks of one agent say together, by rliable (Agarwal et al. 2021); scores are returns / 1000.

    Attributes:
        agent: name of the agent's option.
        frame: at which runs are compared.
        tasks: that every variant taking part has been trained on.
        num_seeds: label of a variant -> runs taken per task.
        iqm: label -> interquartile mean of the scores.
        improvement: labels (x, y) -> probability that x scores higher than y.
        thresholds: scores of the performance profiles, shape (thresholds,).
        profiles: label -> share of runs above each threshold: value, low, high, shape (3, thresholds).
    """

    agent: str
    frame: float
    tasks: tuple[str, ...]
    num_seeds: Mapping[str, int]
    iqm: Mapping[str, Interval]
    improvement: Mapping[tuple[str, str], Interval]
    thresholds: np.ndarray
    profiles: Mapping[str, np.ndarray]


class ReleasedPoint(NamedTuple):
    """A point of the original authors' released curves: mean, sd over seeds, and how many."""

    frame: float
    mean: float
    sd: float
    num_seeds: int


@dataclass(frozen=True)
class Table:
    """A table as it will be printed.

    Attributes:
        name: of its files, without a suffix: `table1`.
        columns: titles.
        rows: cells, as many as columns; plain text.
        notes: lines that stand below it.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """A drawn figure: name of its files without a suffix, what a reader who can't see it is told, and both images."""

    name: str
    alt: str
    svg: bytes
    png: bytes


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading of its own: text, then warnings, tables and figures, each in their order."""

    title: str
    text: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = field(default=())
