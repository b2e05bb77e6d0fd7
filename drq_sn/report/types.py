"""Shared types of the report: runs, tables, figures and sections."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drq_sn.runs.reader import EVAL, Log
from drq_sn.runs.status import Status

PUBLISHED = "published setting"
RETURN = "episode_return_mean"
PROTOCOL = ("preset", "env.", "action_repeat", "eval_every_frames", "num_eval_episodes")  # see `Run.protocol`
FloatArray = NDArray[np.float64]
Row = dict[str, Any]
"""A row of a CSV file: column -> value."""


class Variant(NamedTuple):
    """What is compared: an agent with a head and a normalizer, by the names of their options."""

    agent: str  # name of the agent's option
    head: str  # name of the head's option
    normalizer: str  # name of the normalizer's option
    name: str = ""  # label where runs differ in other options too, such as `lr=3e-4`; empty for the one below

    @property
    def choices(self) -> Variant:
        """Agent, head and normalizer alone, as the paper's tables have them."""
        return self._replace(name="")

    @property
    def label(self) -> str:
        """In tables and legends, without the agent: `modern4 + SN`; `SN` or `plain` where there is no head."""
        if self.name:
            return self.name
        parts = (self.head, "SN" if self.normalizer == "spectral" else self.normalizer)
        return " + ".join(part for part in parts if part != "none") or "plain"

    @property
    def title(self) -> str:
        """With the agent: `DrQ-v2 modern4 + SN`."""
        return f"{agent_title(self.agent)} {self.label}"


def agent_title(agent: str) -> str:
    """The agent's name as its authors write it."""
    return {"drq": "DrQ", "drqv2": "DrQ-v2", "dqn": "DQN", "c51": "C51"}.get(agent, agent)


def format_value(value: Any) -> str:
    """The value of an option as on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


class Departure(NamedTuple):
    """An option of a run that is not at its published value."""

    name: str  # dotted name, as on the command line
    value: Any  # in the run; `absent` where the option does not exist
    published: Any  # value in the published setting; `absent` where the option does not exist

    @property
    def assignment(self) -> str:
        """`env.image_size=48`; runs that differ in it are never averaged."""
        return f"{self.name}={format_value(self.value)}"


class Preset(NamedTuple):
    """A preset other than the published one: its name, and what it changes; without a name there is none."""

    name: str = ""
    departures: tuple[Departure, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """Runs that make a table or a figure: every task with every variant and seed."""

    name: str  # such as `table1`
    agent: str  # name of the agent's option
    tasks: tuple[str, ...]  # names of tasks, in the paper's order
    variants: tuple[dict[str, str], ...]  # options that runs differ in: `{"head": "mlp2", "normalizer": "none"}`
    seeds: tuple[int, ...]  # seeds
    num_train_frames: int  # length of every run
    labels: tuple[str, ...] = ()  # names of the variants, where they were combined from axes
    has_preset: bool = False  # whether these are the runs of a smaller preset, its length included

    @property
    def choices(self) -> tuple[Variant, ...]:
        """Agent, head and normalizer of each variant."""
        return tuple(Variant(self.agent, variant["head"], variant["normalizer"]) for variant in self.variants)


class Series(NamedTuple):
    """One quantity of one run over frames."""

    values: Mapping[float, float]  # frame -> value, in the order of frames
    below: frozenset[float] = frozenset()  # frames with values that are zero or negative, below a logarithmic axis
    missing: frozenset[float] = frozenset()  # frames with values that are infinite or NaN
    diverged_at: float | None = None  # frame where training diverged; None if it did not
    carried: bool = False  # whether the last value of a diverged run is carried forward

    def value_at(self, frame: float) -> float | None:
        """The value at `frame`; for a diverged run that is carried forward, the last one up to it; None without one."""
        if frame in self.values or not self.carried or self.diverged_at is None or frame < self.diverged_at:
            return self.values.get(frame)
        return next((self.values[earlier] for earlier in sorted(self.values, reverse=True) if earlier < frame), None)


def _format_setting(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={format_value(value)}" for name, value in changes.items()) or PUBLISHED


@dataclass(frozen=True)
class Run:
    """A run directory."""

    directory: Path
    task: str  # canonical name of its task
    seed: int
    status: Status  # by `run.json`
    variant: Variant  # what was trained
    departures: tuple[Departure, ...]  # options that are not at the published value of this variant and task
    preset: Preset  # the preset that was chosen
    record: Mapping[str, Any]  # contents of `run.json`
    options: Mapping[str, Any]  # dotted name -> value in `config.yaml`
    logs: Mapping[str, Log]  # CSV files by name

    @property
    def title(self) -> str:
        """Task and variant: `cheetah_run DrQ mlp2`."""
        return f"{self.task} {self.variant.title}"

    @functools.cached_property
    def changes(self) -> Mapping[str, Any]:
        """Option -> value for `preset`, and for every option that is not at the value of that preset.

        Published values are left out: for some options they depend on the task.
        """
        by_preset = {departure.name: departure for departure in self.preset.departures}
        values = {departure.name: departure.value for departure in self.departures}
        reset = {name: departure.published for name, departure in by_preset.items() if name not in values}
        own = {name: value for name, value in values.items() if name not in by_preset or by_preset[name].value != value}
        return ({"preset": self.preset.name} if self.preset.name else {}) | dict(sorted((own | reset).items()))

    @property
    def setting(self) -> str:
        """`changes` as on the command line; runs with different ones are never averaged."""
        return _format_setting(self.changes)

    @property
    def protocol(self) -> str:
        """The part of `setting` that concerns environment and evaluation; without it, scores are not aggregated."""
        return _format_setting({name: value for name, value in self.changes.items() if name.startswith(PROTOCOL)})

    @property
    def diverged(self) -> bool:
        """Whether training diverged."""
        return self.status is Status.DIVERGED

    @property
    def last_frame(self) -> float:
        """The last frame in any log."""
        return max((frame for log in self.logs.values() for frame in log.frames), default=0.0)

    @property
    def end_frame(self) -> float:
        """The frame in `run.json` where training diverged, or else the last one in the logs."""
        frame = self.record.get("frame") if self.diverged else None
        return frame if isinstance(frame, (int, float)) and math.isfinite(frame) else self.last_frame

    @functools.cached_property
    def returns(self) -> Series:
        """Finite mean returns of evaluations; the last is carried forward if training diverged (Bjorck et al., 3.1)."""
        logged = sorted(self.logs[EVAL].series(RETURN).items())
        values = {frame: value for frame, value in logged if math.isfinite(value)}
        return Series(values, diverged_at=self.end_frame if self.diverged else None, carried=True)

    @property
    def evaluations(self) -> Mapping[float, float]:
        """Frame -> finite mean return of the evaluation, in the order of frames."""
        return self.returns.values


class Interval(NamedTuple):
    """An estimate and the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """A table, as printed and as CSV."""

    name: str  # of its files, without a suffix: `table1`
    columns: Sequence[str]  # titles
    rows: Sequence[Sequence[str]]  # cells, as many as columns; plain text
    notes: Sequence[str] = ()  # lines below it
    fields: Sequence[str] = ()  # columns of the CSV file
    records: Sequence[Row] = ()  # rows of the CSV file
    details: Sequence[str] = ()  # further lines, which the page folds
    best: frozenset[tuple[int, int]] = frozenset()  # row and column of each cell that is printed bold
    caption: str = ""  # of the LaTeX file; its name if empty
    latex: Sequence[Sequence[str]] | None = None  # rows of the LaTeX file, if their cells are shorter


@dataclass(frozen=True)
class Figure:
    """A drawn figure: name of its files without a suffix, its text alternative, and both formats."""

    name: str
    alt: str
    svg: bytes
    pdf: bytes


@dataclass(frozen=True)
class Section:
    """A part of the report with its heading: text, warnings, tables and figures, each in their order."""

    title: str
    text: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
