"""The whole report: sections in the paper's order, and every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drq_sn.report import aggregates, figures, page
from drq_sn.report.costs import FIELDS as RUN_FIELDS
from drq_sn.report.costs import cost_table, runs_rows, total_table
from drq_sn.report.score_formats import csv_bytes, latex, markdown, text
from drq_sn.report.scores import (
    Setting,
    canonical,
    common_frame,
    group_by_setting,
    in_order,
    make_cell,
    once_per_seed,
    own_cells,
    released_curves,
)
from drq_sn.report.table3 import FIELDS as PROFILE_FIELDS
from drq_sn.report.table3 import Profile, table3
from drq_sn.report.tables import ALL_FIELDS, CSV_FIELDS, ScoreTable, agent_title, all_cells, runs_of
from drq_sn.report.types import Figure, Plan, ScoredRun, Section, Table, Variant
from drq_sn.report.warnings import cautions, left_out_cautions, name_runs, table_cautions

RUNS, INDEX, WARNINGS, AGGREGATES = "runs.csv", "index.html", "warnings.txt", "aggregates.csv"
TITLE = "drq_sn: report"
TABLES = {"table1": "Table 1", "table2": "Table 2"}
CURVES = {"figure1": "Figure 1", "figure2": "Figure 2", "figure4": "Figure 4"}
DYNAMICS = "figure3"

Row = dict[str, Any]


@dataclass(frozen=True)
class Choices:
    """What the user chose.

    Attributes:
        frame: at which runs are compared; None for the largest that any of a table's runs was evaluated at.
        num_bootstrap: resamples for confidence intervals.
        seed: of the resampling.
    """

    frame: float | None = None
    num_bootstrap: int = 2000
    seed: int = 1


@dataclass
class Report:
    """A report in the making; `build` fills it.

    Args:
        found: every run.
        plans: the paper's tables and figures by name.
        profiles: what `make profile` left.
        choices: the user's.
        start: folder that the runs' folders are given relative to.

    Attributes:
        files: name -> content; `runs.csv`, by which a report is known, comes first.
        text: for the terminal.
    """

    found: Sequence[ScoredRun]
    plans: Mapping[str, Plan]
    profiles: Sequence[Profile]
    choices: Choices
    start: Path
    files: dict[str, bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Group the runs; `_comparable` has each seed once, `_listed` all in the order of tables."""
        self._counted, self._dropped = once_per_seed(self.found)
        self._settings = group_by_setting(self.found)
        self._of = {id(run): setting for setting in self._settings for run in setting.runs}
        self._comparable = [
            replace(setting, runs=tuple(run for run in self._counted if self._of[id(run)] is setting))
            for setting in self._settings
        ]
        places = {variant: place for place, variant in enumerate(in_order(run.variant for run in self.found))}
        self._listed = sorted(self.found, key=lambda run: (run.run.task, places[run.variant], run.run.seed))
        self._shown: set[frozenset[int]] = set()

    def build(self) -> None:
        """Make every table, figure and file."""
        rows = runs_rows(self._listed, self._of, {id(run) for run in self._counted}, self.start)
        self.files[RUNS] = csv_bytes(RUN_FIELDS, rows)
        general = cautions(self.found, self._dropped)
        self.warnings += general
        sections = [
            *(self._table_section(self.plans[name], title) for name, title in TABLES.items()),
            self._table3_section(),
            self._curves_section(),
            self._dynamics_section(),
            self._aggregates_section(),
            self._all_runs_section(),
            self._costs_section(),
        ]
        more = len(self.warnings) - len(general)
        words = [f"Tables and figures have {more} more, where they stand."] if more else [] if general else ["None."]
        self.files[WARNINGS] = "".join(f"{line}\n" for line in self.warnings).encode()
        self.files[INDEX] = page.html(TITLE, self._summary(), [Section("Warnings", words, general), *sections])

    def _summary(self) -> list[str]:
        statuses = Counter(run.run.status for run in self.found)
        return [
            f"{len(self.found)} runs: " + ", ".join(f"{count} {status}" for status, count in statuses.items()) + ".",
            *(f"{s.name}: {name_runs(s.runs) if s.runs else 'no runs'}." for s in self._settings),
            *(line for setting in self._settings for line in _setting_words(setting)),
            f"{len(self.warnings)} warnings and notes." if self.warnings else "No warnings.",
        ]

    def _table_section(self, plan: Plan, title: str) -> Section:
        made = [
            ScoreTable(plan, s, self.choices.frame) for s in self._comparable if s.number == 1 or runs_of(plan, s.runs)
        ]
        tables, lines = [], []
        for score_table in made:
            table, setting = score_table.table(), score_table.setting
            self._save(
                replace(table, notes=[*table.notes, *_setting_words(setting)]), CSV_FIELDS, score_table.csv_rows()
            )
            tables.append(table)
            where = f"{title}, {setting.name}"
            lines += table_cautions(plan, score_table.cells, where)
            if score_table.runs:
                self.text.append(f"{where}, {agent_title(plan.agent)}\n{text(table)}")
        words = [] if made[0].runs else [f"No runs at the published setting; `make {plan.name}` trains them."]
        words += [ELSEWHERE] if len(made) > 1 else []
        self.warnings += lines
        return Section(f"{title}: {agent_title(plan.agent)}", words, lines, tables)

    def _save(self, table: Table, fields: Sequence[str], rows: Sequence[Row]) -> None:
        self.files[f"{table.name}.md"] = markdown(table)
        self.files[f"{table.name}.csv"] = csv_bytes(fields, rows)
        self.files[f"{table.name}.tex"] = latex(table)

    def _table3_section(self) -> Section:
        tables = []
        for index, profile in enumerate(self.profiles or [None], start=1):
            table, rows = table3(profile, "table3" if index == 1 else f"table3_profile{index}")
            self._save(table, PROFILE_FIELDS, rows)
            tables.append(table)
        return Section("Table 3: memory and time", (), (), tables)

    def _curves_section(self) -> Section:
        drawn, words, lines = [], [], []
        covered = {
            variant for name in TABLES for variant in self.plans[name].variants
        }  # their tables have said what is missing
        for name, title in (*CURVES.items(), ("table1", "DrQ-v2 on the tasks of Table 1")):
            plan = self.plans[name]
            made = [self._curves(plan, s) for s in self._comparable if runs_of(plan, s.runs)]
            drawn += made
            if not made:
                words.append(f"{title}: no runs; `make {name}` trains them.")
            lines += [line for setting in self._comparable for line in self._missing(plan, setting, title, covered)]
            covered |= set(plan.variants)
        self.warnings += lines
        return Section("Figures 1, 2 and 4: learning curves", words, lines, (), self._drawn(drawn))

    def _missing(self, plan: Plan, setting: Setting, title: str, covered: Collection[Variant] = ()) -> list[str]:
        """What a figure lacks of the variants that are not `covered`; its last frame is that of all."""
        own = runs_of(plan, setting.runs)
        frame = common_frame(own, plan.num_train_frames) if self.choices.frame is None else self.choices.frame
        rest = [variant for variant in plan.variants if variant not in covered]
        cells = [make_cell(own, task, variant, frame) for task in plan.tasks for variant in rest]
        return table_cautions(plan, cells, f"{title}, {setting.name}", behind="curves end early")

    def _curves(self, plan: Plan, setting: Setting) -> Figure:
        own = runs_of(plan, setting.runs)
        name = f"{'curves_' if plan.name in TABLES else ''}{plan.name}{setting.suffix}"
        tasks = [canonical(task) for task in plan.tasks]
        last = common_frame(own, plan.num_train_frames) or plan.num_train_frames
        self._shown.add(_curves_of(own))
        return figures.curves(name, own, tasks, plan.variants, released_curves(plan.agent), last)

    def _dynamics_section(self) -> Section:
        plan = self.plans[DYNAMICS]
        own = [(s, runs_of(plan, s.runs)) for s in self._comparable]
        drawn = [figures.dynamics(f"{DYNAMICS}{s.suffix}", members, plan.variants) for s, members in own if members]
        words = [f"{s.name}: {name_runs(members)}; the paper averages 5 runs." for s, members in own if members]
        missing = f"No runs of {agent_title(plan.agent)} on {plan.tasks[0]}; `make {DYNAMICS}` trains them."
        lines = [line for setting in self._comparable for line in self._missing(plan, setting, "Figure 3")]
        self.warnings += lines
        return Section("Figure 3: what happens inside", words or [missing], lines, (), self._drawn(drawn))

    def _drawn(self, made: Sequence[Figure]) -> list[Figure]:
        for figure in made:
            self.files[f"{figure.name}.svg"], self.files[f"{figure.name}.png"] = figure.svg, figure.png
        return list(made)

    def _aggregates_section(self) -> Section:
        drawn, tables, lines, rows = [], [], [], []
        limit = max(plan.num_train_frames for plan in self.plans.values())
        for setting, agent, own in self._by_agent():
            choices = self.choices
            made, left_out = aggregates.aggregate(agent, own, limit, choices.frame, choices.num_bootstrap, choices.seed)
            lines += [f"aggregates, {agent_title(agent)}, {setting.name}: {line}" for line in left_out]
            if made is not None:
                rows += aggregates.csv_rows(made, setting.name)
                tables.append(aggregates.table(made, setting.name, f"aggregates_{agent}{setting.suffix}"))
                drawn.append(figures.aggregates(f"aggregates_{agent}{setting.suffix}", made))
        self.files[AGGREGATES] = csv_bytes(aggregates.FIELDS, rows)
        words = [AGGREGATES_WORDS.format(self.choices.num_bootstrap)] if tables else ["No runs to aggregate yet."]
        self.warnings += lines
        return Section("Aggregates over tasks", words, lines, tables, self._drawn(drawn))

    def _by_agent(self) -> list[tuple[Setting, str, list[ScoredRun]]]:
        agents = sorted({run.variant.agent for run in self._counted})
        groups = [
            (s, agent, [r for r in s.runs if r.variant.agent == agent]) for s in self._comparable for agent in agents
        ]
        return [group for group in groups if group[2]]

    def _all_runs_section(self) -> Section:
        cells = {setting.name: own_cells(setting.runs) for setting in self._comparable}
        table, rows = all_cells([(s, cell) for s in self._comparable for cell in cells[s.name]])
        lines = [line for name, own in cells.items() for line in left_out_cautions(own, f"All runs, {name}")]
        self.warnings += lines
        apart = [line for setting in self._settings for line in _setting_words(setting)]
        self._save(replace(table, notes=[*table.notes, *apart]), ALL_FIELDS, rows)
        self.text.append(f"All runs\n{text(table)}")
        drawn = []
        for setting, agent, own in self._by_agent():
            last = common_frame(own)
            if last is not None and _curves_of(own) not in self._shown:
                name, variants = f"curves_{agent}{setting.suffix}", in_order(run.variant for run in own)
                tasks = sorted({run.run.task for run in own})
                drawn.append(figures.curves(name, own, tasks, variants, released_curves(agent), last))
        words = [ELSEWHERE] if len(self._comparable) > 1 else []
        return Section("All runs by task and variant", words, lines, [table], self._drawn(drawn))

    def _costs_section(self) -> Section:
        return Section("Cost per run", (), (), [total_table(self.found), cost_table(self._listed, self._of)])


ELSEWHERE = "What numbered settings are is said at the top of the page."
AGGREGATES_WORDS = (
    "By rliable, on returns / 1000, with 95 % intervals from {} stratified bootstrap samples: interquartile mean over all runs "
    "and tasks; probability that a run of one variant scores higher than one of the other on the same task; share of runs above "
    "a score."
)


def _curves_of(runs: Sequence[ScoredRun]) -> frozenset[int]:
    """By which a figure that would show nothing else is known."""
    return frozenset(map(id, runs))


def _setting_words(setting: Setting) -> list[str]:
    if setting.number == 1:
        return []
    return [
        f"{setting.name[0].upper()}{setting.name[1:]} differ from the published ones: {', '.join(setting.departures)}."
    ]
