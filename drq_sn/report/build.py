"""The report: its sections and every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drq_sn.report import dynamics_figure, page
from drq_sn.report.aggregates import Aggregates, aggregate, aggregates_figure, aggregates_table
from drq_sn.report.comparisons import comparison_section
from drq_sn.report.costs import runs_table
from drq_sn.report.learning_curves import learning_curves
from drq_sn.report.profile_tables import Profile, table3
from drq_sn.report.scores import (
    all_cells,
    canonical,
    common_frame,
    experiment_cells,
    has_suite_return,
    released_curves,
    select_runs,
)
from drq_sn.report.table_formats import format_csv, format_markdown, table_files
from drq_sn.report.tables import all_runs_table, score_table
from drq_sn.report.types import Experiment, Run, Section, agent_title
from drq_sn.report.variants import group_by_protocol, name_variants, once_per_seed
from drq_sn.report.warnings import general_warnings, left_out_warnings, missing_seeds, name_runs, other_settings
from drq_sn.runs.progress import format_count

RUNS, INDEX, WARNINGS = "runs.csv", "index.html", "warnings.txt"
TITLE = "drq_sn: report"
TABLES = {"table1": "Table 1", "table2": "Table 2"}
CURVES = ("figure1", "figure2", "figure4")
FIGURE3 = "figure3"
AGGREGATES_TEXT = (
    "By rliable, on returns / 1000, with 95 % intervals from {} stratified bootstrap samples: interquartile mean over "
    "all runs and tasks; probability that a run of one variant scores higher than one of the other on the same task; "
    "share of runs above a score."
)


@dataclass(frozen=True)
class Choices:
    """Options of the user."""

    frame: float | None = None  # at which runs are compared; None for the largest that a table's runs were evaluated at
    num_bootstrap: int = 2000  # resamples for confidence intervals
    seed: int = 1  # of the resampling


@dataclass(frozen=True)
class Report:
    """A finished report."""

    files: Mapping[str, bytes]  # name -> content; `runs.csv`, which identifies a report, comes first
    text: str  # for the terminal
    warnings: Sequence[str]  # all of them


def build_report(
    runs: Sequence[Run],
    experiments: Mapping[str, Experiment],
    comparisons: Sequence[Experiment],
    profiles: Sequence[Profile],
    choices: Choices,
    start: Path,
    unreadable: Sequence[str] = (),
) -> Report:
    """Make every table, figure and file.

    Paths of run directories are given relative to `start`; `unreadable` are warnings about runs that cannot be read.
    """
    counted, duplicates = once_per_seed(name_variants(runs))
    by_task = dynamics_figure.group_runs(counted)
    limit = max(experiment.num_train_frames for experiment in experiments.values())
    general = [
        *unreadable,
        *general_warnings([*counted, *(run for run, _ in duplicates)], duplicates),
        *(line for name, title in TABLES.items() for line in other_settings(experiments[name], counted, title)),
    ]
    all_runs = _all_runs_section(counted, choices.frame)
    sections = [
        *([Section("Warnings", warnings=general)] if general else []),
        all_runs,
        *_paper_sections(counted, experiments, profiles, choices.frame),
        *(section for comparison in comparisons if (section := comparison_section(comparison, counted, choices.frame))),
        _diagnostics_section(by_task),
        aggregates_section(counted, limit, choices),
        Section("Cost per run", tables=[runs_table(counted, [run for run, _ in duplicates], start)]),
    ]
    warnings = [line for section in sections for line in section.warnings]
    files = {RUNS: b""}  # comes first
    for section in sections:
        for table in section.tables:
            files |= table_files(table)
        for figure in section.figures:
            files |= {f"{figure.name}.svg": figure.svg, f"{figure.name}.pdf": figure.pdf}
    groups = [group for members in by_task.values() for group in members]
    files["diagnostics.csv"] = format_csv(dynamics_figure.diagnostics_rows(groups), dynamics_figure.FIELDS)
    files[WARNINGS] = "".join(f"{line}\n" for line in warnings).encode()
    statuses = ", ".join(f"{count} {status}" for status, count in Counter(run.status for run in runs).items())
    summary = [f"{format_count(len(runs), 'run')}: {statuses}.", f"{format_count(len(warnings), 'warning')}."]
    files[INDEX] = page.render(TITLE, summary, sections)
    return Report(files, "\n".join(map(format_markdown, all_runs.tables)), warnings)


def _all_runs_section(runs: Sequence[Run], frame: float | None) -> Section:
    """Scores and learning curves of all runs, whatever the paper has."""
    cells, figures = all_cells(runs, frame), []
    if common_frame(runs) is not None:
        agents = {run.variant.agent for run in runs}
        released = released_curves(*agents) if len(agents) == 1 else {}
        figures.append(learning_curves("curves", runs, sorted({run.task for run in runs}), released))
    return Section("Results", (), left_out_warnings(cells, "All runs"), [all_runs_table(runs, cells)], figures)


def _paper_sections(
    runs: Sequence[Run], experiments: Mapping[str, Experiment], profiles: Sequence[Profile], frame: float | None
) -> list[Section]:
    """The paper's tables and figures for which there are runs."""
    selected = {name: members for name, experiment in experiments.items() if (members := select_runs(experiment, runs))}
    sections = [_table_section(selected[name], experiments[name], title, frame)
                for name, title in TABLES.items() if name in selected]  # fmt: skip
    if profiles:
        others = [table3(profile, f"table3_profile{number}") for number, profile in enumerate(profiles[1:], start=2)]
        sections.append(Section("Table 3: memory and time", tables=[table3(profiles[0], "table3"), *others]))
    figures = []
    for name in (name for name in CURVES if name in selected):
        tasks, limit = [canonical(task) for task in experiments[name].tasks], experiments[name].num_train_frames
        if common_frame(selected[name], limit) is not None:
            released = released_curves(experiments[name].agent)
            figures.append(learning_curves(name, selected[name], tasks, released, limit))
    if figures:
        sections.append(Section("Figures 1, 2 and 4: learning curves", figures=figures))
    for task, groups in dynamics_figure.group_runs(selected.get(FIGURE3, [])).items():
        text = f"{name_runs(selected[FIGURE3])}; the paper averages 5 runs."
        sections.append(Section("Figure 3: critic loss, return and gradient norms", [text], figures=[
            dynamics_figure.figure3(FIGURE3, task, groups)]))  # fmt: skip
    return sections


def _table_section(runs: Sequence[Run], experiment: Experiment, title: str, frame: float | None) -> Section:
    """Table 1 or 2."""
    cells = experiment_cells(experiment, runs, frame)
    warnings = missing_seeds(experiment, cells, title) + left_out_warnings(cells, title)
    return Section(f"{title}: {agent_title(experiment.agent)}", (), warnings, [score_table(experiment, cells)])


def _diagnostics_section(by_task: Mapping[str, Sequence[dynamics_figure.Group]]) -> Section:
    """The quantities of Figure 3 and others for every task, all variants side by side."""
    figures = []
    for task, groups in by_task.items():
        figures.append(dynamics_figure.figure3(f"{FIGURE3}_{task}", task, groups))
        figures += dynamics_figure.further_diagnostics(f"diagnostics_{task}", task, groups)
    return Section("Diagnostics by task", figures=figures)


def aggregates_section(runs: Sequence[Run], limit: float, choices: Choices) -> Section:
    """Statistics of every agent under every protocol."""
    results: list[tuple[str, Aggregates]] = []
    figures, warnings = [], []
    aggregated = [run for run in runs if has_suite_return(run)]
    for number, (protocol, members) in enumerate(group_by_protocol(aggregated).items(), start=1):
        for agent in sorted({run.variant.agent for run in members}):
            present = [run for run in members if run.variant.agent == agent]
            result, notes = aggregate(agent, present, limit, choices.frame, choices.num_bootstrap, choices.seed)
            warnings += [f"aggregates, {agent_title(agent)}, {protocol}: {line}" for line in notes]
            if result is not None:
                results.append((protocol, result))
                name = f"aggregates_{agent}{f'_{number}' if number > 1 else ''}"
                figures.append(aggregates_figure(result, protocol, name))
    text = AGGREGATES_TEXT.format(choices.num_bootstrap) if results else "No runs to aggregate yet."
    return Section("Aggregates over tasks", [text], warnings, [aggregates_table(results)], figures)
