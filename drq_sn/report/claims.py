"""The ledger of claims: what the papers say, what was run here, and the verdict, as one Markdown page."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from drq_sn.report.costs import read_cost
from drq_sn.report.profile_tables import METRICS, find_profiles, format_digits
from drq_sn.report.scores import Cell, common_frame, fill_cell, group_by_variant
from drq_sn.report.table_formats import NO_VALUE, format_frame, format_markdown, format_number
from drq_sn.report.tables import format_cell
from drq_sn.report.types import Run, Table, agent_title
from drq_sn.report.variants import name_variants, once_per_seed
from drq_sn.runs.reader import TRAIN

ReadRuns = Callable[[Sequence[str]], Sequence[Run]]
RETURNS = ("task", "agent", "variant", "frame", "return: mean ± standard error (sd, seeds)", "frames run", "hours")
DIGITS = 4  # significant, of means of a CSV file


class Verdict(str, enum.Enum):
    """What our runs say of a claim; `open` until they can tell."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    OPEN = "open"


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        name: short and unique: `B1`.
        place: figure, table or section of the paper.
        text: the claim in one or two sentences.
        theirs: the paper's numbers.
        command: tests the claim at the paper's scale.
        verdict: by the runs in `evidence`.
        reason: of the verdict, with what differs from the paper.
        evidence: what was run; see `evidence_table`.
    """

    name: str
    place: str
    text: str
    theirs: str
    command: str
    verdict: Verdict
    reason: str
    evidence: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Paper:
    """A paper and its claims; `title` is a heading."""

    title: str
    claims: Sequence[Claim]


def parse_ledger(content: Sequence[Mapping[str, Any]]) -> list[Paper]:
    """The papers in the content of `results/claims.yaml`.

    Raises:
        ValueError: for an unknown verdict, two claims of one name, or a verdict without evidence.
        TypeError: for a claim with missing or unknown fields.
    """
    papers = [
        Paper(paper["title"], [Claim(**{**claim, "verdict": Verdict(claim["verdict"])}) for claim in paper["claims"]])
        for paper in content
    ]
    claims = [claim for paper in papers for claim in paper.claims]
    if repeated := [name for name, count in Counter(claim.name for claim in claims).items() if count > 1]:
        raise ValueError(f"two claims named {repeated[0]}")
    for claim in claims:
        if claim.verdict is not Verdict.OPEN and not claim.evidence:
            raise ValueError(f"{claim.name}: the verdict {claim.verdict.value} needs evidence")
    return papers


def render(papers: Sequence[Paper], root: Path, read_runs: ReadRuns, introduction: str) -> str:
    """The page: an overview, then every claim with its evidence.

    Args:
        papers: the ledger.
        root: directory that the paths in the ledger are relative to.
        read_runs: patterns of run directories -> runs.
        introduction: first paragraphs, with the page's heading.
    """
    claims = [claim for paper in papers for claim in paper.claims]
    counts = ", ".join(f"{sum(claim.verdict is verdict for claim in claims)} {verdict.value}" for verdict in Verdict)
    lines = [introduction.strip(), "", f"{len(claims)} claims: {counts}.", ""]
    for paper in papers:
        rows = [(f"[{c.name}](#{c.name.lower()})", c.place, c.text, f"**{c.verdict.value}**") for c in paper.claims]
        lines += [f"## {paper.title}", "", *_markdown(("claim", "source", "what it says", "verdict"), rows), ""]
    lines += ["## Evidence", ""]
    for claim in claims:
        lines += [f"### {claim.name}", ""]
        lines += [f"- **{claim.verdict.value.capitalize()}.** {claim.reason}", f"- Theirs: {claim.theirs}"]
        lines += [f"- Command: `{claim.command}`", "" if claim.evidence else "- Ours: no runs yet.", ""]
        for item in claim.evidence:
            lines += ["Ours" + (f", {item['note']}:" if "note" in item else ":"), ""]
            lines += [format_markdown(evidence_table(item, root, read_runs)).strip(), ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose cells may contain Markdown."""
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def evidence_table(item: Mapping[str, Any], root: Path, read_runs: ReadRuns) -> Table:
    """What was measured, by the kind of `item`.

    - `runs`: patterns of run directories. The table has returns by task and variant, at each of `frames` or the last
      that any seed of the variant was evaluated at; with `columns` of `train.csv`, their largest and last value.
    - `csv`: a file; means of `columns` by each value of `by`, over rows where `where` holds.
    - `profile`: a directory of `drq-sn profile`: ratios to `mlp2` beside the paper's.

    Raises:
        ValueError: for another kind.
        InvalidInput: for a path without runs, or with damaged ones.
    """
    if "runs" in item:
        runs, _ = once_per_seed(name_variants(read_runs([str(root / pattern) for pattern in item["runs"]])))
        return _diagnostics_table(runs, item["columns"]) if "columns" in item else _returns_table(runs, item)
    if "csv" in item:
        return _csv_table(pd.read_csv(root / item["csv"]), item)
    if "profile" in item:
        return _profile_table(root / item["profile"])
    raise ValueError(f"evidence must have runs, csv or profile, got {', '.join(item)}")


def _returns_table(runs: Sequence[Run], item: Mapping[str, Any]) -> Table:
    rows = []
    for members in group_by_variant(runs):
        for frame in item.get("frames", [common_frame(members)]):
            rows.append(_returns_row(members, fill_cell(members, members[0].task, members[0].variant, frame)))
    return Table("returns", RETURNS, rows)


def _returns_row(members: Sequence[Run], cell: Cell) -> list[str]:
    variant = members[0].variant
    ended = sorted({format_frame(run.last_frame) for run in members})
    unfinished = "" if all(run.status.is_final for run in members) else " (unfinished)"
    hours = sum(read_cost(run).hours or 0.0 for run in members)
    place = [members[0].task, agent_title(variant.agent), variant.label, format_frame(cell.frame)]
    return [*place, format_cell(cell), f"{', '.join(ended)}{unfinished}", format_number(hours)]


def _diagnostics_table(runs: Sequence[Run], columns: Sequence[str]) -> Table:
    """Largest and last logged value of each column, by seed."""
    titles = ["task", "agent", "variant", *(f"{column}: largest, last" for column in columns)]
    rows = []
    for members in group_by_variant(runs):
        variant = members[0].variant
        cells = ["; ".join(_extremes(run, column) for run in members) for column in columns]
        rows.append([members[0].task, agent_title(variant.agent), variant.label, *cells])
    return Table("diagnostics", titles, rows, ["Seeds are separated by semicolons."])


def _extremes(run: Run, column: str) -> str:
    values = list(run.logs[TRAIN].series(column).values())
    largest = max(filter(math.isfinite, values), default=math.nan)
    return f"{format_digits(largest)}, {format_digits(values[-1])}" if values else NO_VALUE


def _csv_table(frame: pd.DataFrame, item: Mapping[str, Any]) -> Table:
    for column, values in item.get("where", {}).items():
        frame = frame[frame[column].isin(values)]
    by, columns = list(item["by"]), list(item["columns"])
    rows = [
        [*map(str, key), *(f"{mean:.{DIGITS}g}" for mean in group[columns].mean()), str(len(group))]
        for key, group in frame.groupby(by, sort=False)
    ]
    return Table("means", [*by, *columns, "n"], rows)


def _profile_table(directory: Path) -> Table:
    profile = find_profiles([str(directory)])[0]
    rows = []
    for row in profile.rows:
        ratios = ((row[f"{metric}_ratio"], row[f"{metric}_ratio_paper"]) for metric in METRICS)
        rows.append([row["head"], row["normalizer"], *(f"{format_digits(o)} ({format_digits(p)})" for o, p in ratios)])
    titles = [" ".join(metric.split("_")[:2]) for metric in METRICS]
    setting = f"{agent_title(profile.agent)} at batch {profile.batch_size} on {profile.device}"
    note = f"Ratios to mlp2 without normalizer, and the paper's in parentheses; {setting}."
    return Table("ratios", ["head", "normalizer", *titles], rows, [note])
