"""The report: its sections and every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drq_sn.report import dynamics_figure, page
from drq_sn.report.aggregates import Aggregates, aggregate, aggregates_figure, aggregates_table
from drq_sn.report.costs import runs_table
from drq_sn.report.learning_curves import learning_curves
from drq_sn.report.profile_tables import Profile, table3
from drq_sn.report.scores import (
    Setting,
    all_cells,
    canonical,
    common_frame,
    group_by_setting,
    plan_cells,
    released_curves,
    select_runs,
)
from drq_sn.report.table_formats import format_csv, format_markdown, table_files
from drq_sn.report.tables import all_runs_table, score_table
from drq_sn.report.types import Figure, Plan, Run, Section, agent_title
from drq_sn.report.warnings import general_warnings, left_out_warnings, missing_seeds, name_runs
from drq_sn.runs.progress import format_count

RUNS, INDEX, WARNINGS = "runs.csv", "index.html", "warnings.txt"
TITLE = "drq_sn: report"
TABLES = {"table1": "Table 1", "table2": "Table 2"}
CURVES = {"figure1": "Figure 1", "figure2": "Figure 2", "figure4": "Figure 4"}
FIGURE3 = "figure3"
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


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes:
        files: name -> content; `runs.csv`, which identifies a report, comes first.
        text: for the terminal.
        warnings: all of them.
    """

    files: Mapping[str, bytes]
    text: str
    warnings: Sequence[str]


def build_report(
    runs: Sequence[Run],
    plans: Mapping[str, Plan],
    profiles: Sequence[Profile],
    choices: Choices,
    start: Path,
    unreadable: Sequence[str] = (),
) -> Report:
    """Make every table, figure and file.

    Args:
        runs: all of them.
        plans: the paper's tables and figures by name.
        profiles: results of `drq-sn profile`.
        choices: the user's.
        start: directory that run directories are relative to.
        unreadable: warnings about runs that cannot be read.
    """
    settings = group_by_setting(runs)
    by_task = dynamics_figure.group_runs(settings)
    limit = max(plan.num_train_frames for plan in plans.values())
    general = [*unreadable, *general_warnings(settings, runs)]
    all_runs = _all_runs_section(settings)
    sections = [
        *([Section("Warnings", warnings=general)] if general else []),
        all_runs,
        *(_table_section(settings, plans[name], title, choices.frame) for name, title in TABLES.items()),
        _table3_section(profiles),
        _paper_curves_section(settings, plans),
        _figure3_section(settings, plans[FIGURE3]),
        _diagnostics_section(by_task),
        _aggregates_section(settings, limit, choices),
        Section("Cost per run", tables=[runs_table(settings, start)]),
    ]
    warnings = [line for section in sections for line in section.warnings]
    files = {RUNS: b""}  # comes first
    for section in sections:
        for table in section.tables:
            files |= table_files(table)
        for figure in section.figures:
            files |= {f"{figure.name}.svg": figure.svg, f"{figure.name}.png": figure.png}
    groups = [group for members in by_task.values() for group in members]
    files["diagnostics.csv"] = format_csv(dynamics_figure.diagnostics_rows(groups), dynamics_figure.FIELDS)
    files[WARNINGS] = "".join(f"{line}\n" for line in warnings).encode()
    statuses = ", ".join(f"{count} {status}" for status, count in Counter(run.status for run in runs).items())
    summary = [f"{format_count(len(runs), 'run')}: {statuses}.", f"{format_count(len(warnings), 'warning')}."]
    files[INDEX] = page.render(TITLE, summary, sections)
    return Report(files, "\n".join(map(format_markdown, all_runs.tables)), warnings)


def _by_agent(settings: Sequence[Setting]) -> list[tuple[Setting, str, list[Run]]]:
    """Every agent with its runs in every setting."""
    return [
        (setting, agent, [run for run in setting.runs if run.variant.agent == agent])
        for setting in settings
        for agent in sorted({run.variant.agent for run in setting.runs})
    ]


def _all_runs_section(settings: Sequence[Setting]) -> Section:
    """Scores and learning curves of all runs, whatever the paper has."""
    cells = [all_cells(setting.runs) for setting in settings]
    warnings = []
    for setting, members in zip(settings, cells, strict=True):
        warnings += left_out_warnings(members, f"All runs, {setting.name}")
    figures = []
    for setting, agent, runs in _by_agent(settings):
        last = common_frame(runs)
        if last is not None:
            tasks = sorted({run.task for run in runs})
            name = f"curves_{agent}{setting.suffix}"
            figures.append(learning_curves(name, runs, tasks, released_curves(agent), last))
    return Section("All runs by task and variant", (), warnings, [all_runs_table(settings, cells)], figures)


def _table_section(settings: Sequence[Setting], plan: Plan, title: str, frame: float | None) -> Section:
    """Table 1 or 2 for every setting with runs, and for the published one."""
    tables, warnings = [], []
    for setting in settings:
        if setting.number == 1 or select_runs(plan, setting.runs):
            cells, where = plan_cells(plan, setting.runs, frame), f"{title}, {setting.name}"
            tables.append(score_table(plan, setting, cells))
            warnings += missing_seeds(plan, cells, where) + left_out_warnings(cells, where)
    published = select_runs(plan, settings[0].runs)
    text = [] if published else [f"No runs at the published setting; `make {plan.name}` trains them."]
    return Section(f"{title}: {agent_title(plan.agent)}", text, warnings, tables)


def _table3_section(profiles: Sequence[Profile]) -> Section:
    others = [table3(profile, f"table3_profile{number}") for number, profile in enumerate(profiles[1:], start=2)]
    tables = [table3(profiles[0] if profiles else None, "table3"), *others]
    return Section("Table 3: memory and time", tables=tables)


def _paper_curves_section(settings: Sequence[Setting], plans: Mapping[str, Plan]) -> Section:
    figures: list[Figure] = []
    text = []
    for name, title in CURVES.items():
        plan = plans[name]
        tasks, drawn = [canonical(task) for task in plan.tasks], len(figures)
        for setting in settings:
            runs = select_runs(plan, setting.runs)
            last = common_frame(runs, plan.num_train_frames)
            if last is not None:
                file = f"{name}{setting.suffix}"
                figures.append(learning_curves(file, runs, tasks, released_curves(plan.agent), last))
        if len(figures) == drawn:
            text.append(f"{title}: no runs; `make {name}` trains them.")
    return Section("Figures 1, 2 and 4: learning curves", text, figures=figures)


def _figure3_section(settings: Sequence[Setting], plan: Plan) -> Section:
    figures, text = [], []
    for setting in settings:
        runs = select_runs(plan, setting.runs)
        for task, groups in dynamics_figure.group_runs([replace(setting, runs=tuple(runs))]).items():
            figures.append(dynamics_figure.figure3(f"{FIGURE3}{setting.suffix}", task, groups))
            text.append(f"{setting.name}: {name_runs(runs)}; the paper averages 5 runs.")
    missing = f"No runs of {agent_title(plan.agent)} on {plan.tasks[0]}; `make {FIGURE3}` trains them."
    return Section("Figure 3: what happens inside", text or [missing], figures=figures)


def _diagnostics_section(by_task: Mapping[str, Sequence[dynamics_figure.Group]]) -> Section:
    """The quantities of Figure 3 and others for every task, all variants and settings side by side."""
    figures = []
    for task, groups in by_task.items():
        figures.append(dynamics_figure.figure3(f"{FIGURE3}_{task}", task, groups))
        figures += dynamics_figure.further_diagnostics(f"diagnostics_{task}", task, groups)
    return Section("Diagnostics by task", figures=figures)


def _aggregates_section(settings: Sequence[Setting], limit: float, choices: Choices) -> Section:
    results: list[tuple[str, Aggregates]] = []
    figures, warnings = [], []
    for setting, agent, runs in _by_agent(settings):
        result, notes = aggregate(agent, runs, limit, choices.frame, choices.num_bootstrap, choices.seed)
        warnings += [f"aggregates, {agent_title(agent)}, {setting.name}: {line}" for line in notes]
        if result is not None:
            results.append((setting.name, result))
            figures.append(aggregates_figure(result, f"aggregates_{agent}{setting.suffix}"))
    text = AGGREGATES_TEXT.format(choices.num_bootstrap) if results else "No runs to aggregate yet."
    return Section("Aggregates over tasks", [text], warnings, [aggregates_table(results)], figures)
