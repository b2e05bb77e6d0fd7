"""The report: sections in the paper's order, and every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drq_sn.report import aggregates, costs, dynamics_figure, page
from drq_sn.report.learning_curves import learning_curves
from drq_sn.report.scores import (
    Setting,
    canonical,
    common_frame,
    fill_cell,
    fill_cells,
    group_by_setting,
    released_curves,
    select_runs,
)
from drq_sn.report.table3 import FIELDS as PROFILE_FIELDS
from drq_sn.report.table3 import Profile, table3
from drq_sn.report.table_formats import format_csv, format_departures, format_latex, format_markdown
from drq_sn.report.tables import ALL_FIELDS, CSV_FIELDS, ScoreTable, all_runs_table
from drq_sn.report.types import Figure, Plan, Row, Run, Section, Table, Variant, agent_title, sort_variants
from drq_sn.report.warnings import general_warnings, left_out_warnings, name_runs, table_warnings

RUNS, INDEX, WARNINGS, AGGREGATES = "runs.csv", "index.html", "warnings.txt", "aggregates.csv"
TITLE = "drq_sn: report"
TABLES = {"table1": "Table 1", "table2": "Table 2"}
CURVES = {"figure1": "Figure 1", "figure2": "Figure 2", "figure4": "Figure 4",
          "table1": "DrQ-v2 on the tasks of Table 1"}  # fmt: skip
FIGURE3 = "figure3"
SEE_TOP = "The top of the page lists what numbered settings are."
AGGREGATES_TEXT = (
    "By rliable, on returns / 1000, with 95 % intervals from {} stratified bootstrap samples: interquartile mean over "
    "all runs and tasks; probability that a run of one variant scores higher than one of the other on the same task; "
    "share of runs above a score."
)


@dataclass(frozen=True)
class Choices:
    """Options of the user.

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
    """A report; `build` fills it.

    Args:
        found: every run.
        plans: the paper's tables and figures by name.
        profiles: results of `drq-sn profile`.
        choices: the user's.
        start: directory that run directories are relative to.

    Attributes:
        files: name -> content; `runs.csv`, which identifies a report, comes first.
        text: for the terminal.
        warnings: all of them.
    """

    found: Sequence[Run]
    plans: Mapping[str, Plan]
    profiles: Sequence[Profile]
    choices: Choices
    start: Path
    files: dict[str, bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Group the runs."""
        self._settings = group_by_setting(self.found)
        self._listed = costs.list_runs(self._settings)
        self._drawn: set[frozenset[int]] = set()  # runs that are together in a figure of learning curves

    def build(self) -> None:
        """Make every table, figure and file."""
        self.files[RUNS] = format_csv(costs.runs_rows(self._listed, self.start), costs.FIELDS)
        general = general_warnings(self._settings, self.found)
        self.warnings += general
        sections = [
            *(self._table_section(self.plans[name], title) for name, title in TABLES.items()),
            self._table3_section(),
            self._curves_section(),
            self._figure3_section(),
            self._diagnostics_section(),
            self._aggregates_section(),
            self._all_runs_section(),
            self._costs_section(),
        ]
        more = len(self.warnings) - len(general)
        text = [f"{more} more stand with their tables and figures."] if more else [] if general else ["None."]
        self.files[WARNINGS] = "".join(f"{line}\n" for line in self.warnings).encode()
        for figure in (figure for section in sections for figure in section.figures):
            self.files |= {f"{figure.name}.svg": figure.svg, f"{figure.name}.png": figure.png}
        self.files[INDEX] = page.render(TITLE, self._summary(), [Section("Warnings", text, general), *sections])

    def _summary(self) -> list[str]:
        statuses = Counter(run.status for run in self.found)
        return [
            f"{len(self.found)} runs: " + ", ".join(f"{count} {status}" for status, count in statuses.items()) + ".",
            *(f"{s.name}: {name_runs(s.all_runs) if s.runs else 'no runs'}." for s in self._settings),
            *(line for setting in self._settings for line in _describe(setting)),
            f"{len(self.warnings)} warnings and notes." if self.warnings else "No warnings.",
        ]

    def _save(self, table: Table, fields: Sequence[str], rows: Sequence[Row]) -> None:
        self.files[f"{table.name}.md"] = format_markdown(table).encode()
        self.files[f"{table.name}.csv"] = format_csv(rows, fields)
        self.files[f"{table.name}.tex"] = format_latex(table).encode()

    def _table_section(self, plan: Plan, title: str) -> Section:
        tables, warnings = [], []
        settings = [s for s in self._settings if s.number == 1 or select_runs(plan, s.runs)]
        for setting in settings:
            scores = ScoreTable(plan, setting, self.choices.frame)
            table, where = scores.table(), f"{title}, {setting.name}"
            self._save(_with_notes(table, [setting]), CSV_FIELDS, scores.csv_rows())
            tables.append(table)
            warnings += table_warnings(plan, scores.cells, where)
            if scores.runs:
                self.text.append(f"{where}, {agent_title(plan.agent)}\n{format_markdown(table)}")
        published = select_runs(plan, settings[0].runs)
        text = [] if published else [f"No runs at the published setting; `make {plan.name}` trains them."]
        self.warnings += warnings
        return Section(f"{title}: {agent_title(plan.agent)}", text + [SEE_TOP] * (len(tables) > 1), warnings, tables)

    def _table3_section(self) -> Section:
        tables = []
        for index, profile in enumerate(self.profiles or [None], start=1):
            table, rows = table3(profile, "table3" if index == 1 else f"table3_profile{index}")
            self._save(table, PROFILE_FIELDS, rows)
            tables.append(table)
        return Section("Table 3: memory and time", tables=tables)

    def _curves_section(self) -> Section:
        figures, text, warnings = [], [], []
        covered = {variant for name in TABLES for variant in self.plans[name].variants}  # by warnings of their tables
        for name, title in CURVES.items():
            plan = self.plans[name]
            groups = [(setting, runs) for setting in self._settings if (runs := select_runs(plan, setting.runs))]
            for setting, runs in groups:
                file = f"{'curves_' if name in TABLES else ''}{name}{setting.suffix}"
                last = common_frame(runs, plan.num_train_frames) or plan.num_train_frames
                tasks = [canonical(task) for task in plan.tasks]
                figures.append(self._curves(file, plan.agent, runs, tasks, plan.variants, last))
            text += [] if groups else [f"{title}: no runs; `make {name}` trains them."]
            warnings += self._missing(plan, title, covered)
            covered |= set(plan.variants)
        self.warnings += warnings
        return Section("Figures 1, 2 and 4: learning curves", text, warnings, figures=figures)

    def _curves(
        self, name: str, agent: str, runs: Sequence[Run], tasks: Sequence[str], variants: Sequence[Variant], last: float
    ) -> Figure:
        self._drawn.add(frozenset(map(id, runs)))
        return learning_curves(name, runs, tasks, variants, released_curves(agent), last)

    def _missing(self, plan: Plan, title: str, covered: Collection[Variant] = ()) -> list[str]:
        """What a figure lacks of the variants that are not `covered`, by setting; all share its last frame."""
        warnings = []
        for setting in self._settings:
            runs = select_runs(plan, setting.runs)
            frame = common_frame(runs, plan.num_train_frames) if self.choices.frame is None else self.choices.frame
            variants = [variant for variant in plan.variants if variant not in covered]
            cells = [fill_cell(runs, task, variant, frame) for task in plan.tasks for variant in variants]
            warnings += table_warnings(plan, cells, f"{title}, {setting.name}", behind="curves end early")
        return warnings

    def _figure3_section(self) -> Section:
        plan, figures, text = self.plans[FIGURE3], [], []
        for setting in self._settings:
            runs = select_runs(plan, setting.runs)
            for task, groups in dynamics_figure.group_runs([replace(setting, runs=tuple(runs))]).items():
                figures.append(dynamics_figure.figure3(f"{FIGURE3}{setting.suffix}", task, groups))
                text.append(f"{setting.name}: {name_runs(runs)}; the paper averages 5 runs.")
        missing = f"No runs of {agent_title(plan.agent)} on {plan.tasks[0]}; `make {FIGURE3}` trains them."
        warnings = self._missing(plan, "Figure 3")
        self.warnings += warnings
        return Section("Figure 3: what happens inside", text or [missing], warnings, figures=figures)

    def _diagnostics_section(self) -> Section:
        """The quantities of Figure 3 and others for every task, all variants and settings side by side."""
        by_task = dynamics_figure.group_runs(self._settings)
        groups = [group for members in by_task.values() for group in members]
        table = dynamics_figure.diagnostics_table(groups)
        self._save(table, dynamics_figure.FIELDS, dynamics_figure.diagnostics_rows(groups))
        self.text.append(f"Diagnostics\n{format_markdown(table)}")
        figures = []
        for task, members in by_task.items():
            figures.append(dynamics_figure.figure3(f"{FIGURE3}_{task}", task, members))
            figures += dynamics_figure.further_diagnostics(f"diagnostics_{task}", task, members)
        return Section("Diagnostics by task", tables=[table], figures=figures)

    def _aggregates_section(self) -> Section:
        figures, tables, warnings, rows = [], [], [], []
        limit, choices = max(plan.num_train_frames for plan in self.plans.values()), self.choices
        for setting, agent, runs in self._by_agent():
            result, left_out = aggregates.aggregate(
                agent, runs, limit, choices.frame, choices.num_bootstrap, choices.seed
            )
            warnings += [f"aggregates, {agent_title(agent)}, {setting.name}: {line}" for line in left_out]
            if result is not None:
                name = f"aggregates_{agent}{setting.suffix}"
                rows += aggregates.aggregates_rows(result, setting.name)
                tables.append(aggregates.aggregates_table(result, setting.name, name))
                figures.append(aggregates.aggregates_figure(result, name))
        self.files[AGGREGATES] = format_csv(rows, aggregates.FIELDS)
        text = AGGREGATES_TEXT.format(choices.num_bootstrap) if tables else "No runs to aggregate yet."
        self.warnings += warnings
        return Section("Aggregates over tasks", [text], warnings, tables, figures)

    def _by_agent(self) -> list[tuple[Setting, str, list[Run]]]:
        agents = sorted({run.variant.agent for run in self.found})
        groups = [(s, agent, [run for run in s.runs if run.variant.agent == agent]) for s in self._settings
                  for agent in agents]  # fmt: skip
        return [group for group in groups if group[2]]

    def _all_runs_section(self) -> Section:
        cells = {setting.number: fill_cells(setting.runs) for setting in self._settings}
        table, rows = all_runs_table([(s, cell) for s in self._settings for cell in cells[s.number]])
        self._save(_with_notes(table, self._settings), ALL_FIELDS, rows)
        self.text.append(f"All runs\n{format_markdown(table)}")
        warnings = [line for s in self._settings for line in left_out_warnings(cells[s.number], f"All runs, {s.name}")]
        self.warnings += warnings
        figures = []
        for setting, agent, runs in self._by_agent():
            last = common_frame(runs)
            if last is not None and frozenset(map(id, runs)) not in self._drawn:
                variants, tasks = sort_variants(run.variant for run in runs), sorted({run.task for run in runs})
                figures.append(self._curves(f"curves_{agent}{setting.suffix}", agent, runs, tasks, variants, last))
        text = [SEE_TOP] * (len(self._settings) > 1)
        return Section("All runs by task and variant", text, warnings, [table], figures)

    def _costs_section(self) -> Section:
        return Section("Cost per run", tables=[costs.total_table(self.found), costs.cost_table(self._listed)])


def _with_notes(table: Table, settings: Iterable[Setting]) -> Table:
    return replace(table, notes=[*table.notes, *(line for setting in settings for line in _describe(setting))])


def _describe(setting: Setting) -> list[str]:
    """One line with the departures of a setting other than the published one."""
    if setting.number == 1:
        return []
    departures = ", ".join(format_departures(setting.departures))
    return [f"{setting.name.capitalize()} differ from the published ones: {departures}."]
