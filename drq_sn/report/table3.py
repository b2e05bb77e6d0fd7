"""The paper's Table 3 beside what `make profile` measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drq_sn.report.profile_tables import BASE_NORMALIZER, METRICS, table_rows
from drq_sn.report.published import TABLE3, read_table
from drq_sn.report.table_formats import NO_VALUE
from drq_sn.report.types import Table, agent_title
from drq_sn.validation import InvalidInput

FILE = "profile.json"
PAPER_AGENT, PAPER_BATCH = "drq", 512
FIELDS = ("head", "normalizer", "metric", "mean", "sd", "n", "paper", "paper_sd", "agent", "batch_size", "device")

Row = dict[str, Any]


@dataclass(frozen=True)
class Profile:
    """A `profile.json`: who was measured where, and at what batch.

    Attributes:
        agent: name of the agent's option; empty where nothing was measured.
        batch_size: transitions of an update; 0 likewise.
        device: the hardware's name.
        rows: from `profile_tables.table_rows`.
    """

    agent: str
    batch_size: int
    device: str
    rows: Sequence[Row]

    @property
    def is_papers(self) -> bool:
        """Whether it was measured at the paper's setting, if on other hardware."""
        return (self.agent, self.batch_size) == (PAPER_AGENT, PAPER_BATCH)


def find_profiles(folders: Iterable[str]) -> list[Profile]:
    """Every profile in or below `folders`, those at the paper's setting first; folders that are not there hold none.

    Raises:
        InvalidInput: for a file that cannot be read.
    """
    paths = dict.fromkeys(path for folder in folders for path in sorted(Path(folder).expanduser().rglob(FILE)))
    return sorted(map(_read, paths), key=lambda profile: not profile.is_papers)


def _read(path: Path) -> Profile:
    try:
        about = json.loads(path.read_text())
        rows = table_rows(about["measurements"], read_table(TABLE3, key="head"))
        return Profile(about["agent"], about["settings"]["batch_size"], about["machine"]["device"], rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is not a profile that make profile wrote ({error!r})") from None


def table3(profile: Profile | None, name: str) -> tuple[Table, list[Row]]:
    """The paper's heads and whatever else was measured, as a table and as rows of CSV."""
    paper = read_table(TABLE3, key="head")
    measured = {(row["head"], row["normalizer"]): row for row in profile.rows} if profile else {}
    keys = dict.fromkeys([*((head, BASE_NORMALIZER) for head in paper), *measured])
    columns = ["head", "normalizer", *(title for metric in METRICS.values() for title in (metric, "paper"))]
    lines = [
        [*key, *(cell for m in METRICS for cell in (_measured(measured.get(key, {}), m), _papers(paper, key, m)))]
        for key in keys
    ]
    rows = [_numbers(key, metric, measured.get(key, {}), paper, profile) for key in keys for metric in METRICS]
    return Table(name, columns, lines, _notes(profile)), rows


def _notes(profile: Profile | None) -> list[str]:
    notes = [
        "paper: Bjorck et al. (2021), Table 3: DrQ at batch 512 on a V100, without normalizer; mean ± sd of 5 runs."
    ]
    if profile is None:
        return ["No profile yet: `make profile` measures one.", *notes]
    here = f"Ours: {agent_title(profile.agent)} at batch {profile.batch_size} on {profile.device}; mean ± sd of rounds."
    other = [] if profile.is_papers else ["Not the paper's setting: compare ratios between heads, not numbers."]
    failed = [f"{row['head']} {row['normalizer']}: failed: {row['error']}" for row in profile.rows if "error" in row]
    return [here, *notes, *other, *failed]


def _numbers(
    key: tuple[str, str], metric: str, row: Row, paper: dict[str, dict[str, float]], profile: Profile | None
) -> Row:
    head, normalizer = key
    published = paper.get(head, {}) if normalizer == BASE_NORMALIZER else {}
    return {
        "head": head,
        "normalizer": normalizer,
        "metric": metric,
        "mean": row.get(metric),
        "sd": row.get(f"{metric}_sd"),
        "n": row.get("num_rounds", 0),
        "paper": published.get(metric),
        "paper_sd": published.get(f"{metric}_sd"),
        **({"agent": profile.agent, "batch_size": profile.batch_size, "device": profile.device} if profile else {}),
    }


def _measured(row: Row, metric: str) -> str:
    return _with_sd(row.get(metric), row.get(f"{metric}_sd"))


def _papers(paper: dict[str, dict[str, float]], key: tuple[str, str], metric: str) -> str:
    row = paper.get(key[0], {}) if key[1] == BASE_NORMALIZER else {}
    return _with_sd(row.get(metric), row.get(f"{metric}_sd"))


def _with_sd(value: float | None, sd: float | None) -> str:
    if value is None:
        return NO_VALUE
    return f"{value:.2f}" + (f" ± {sd:.2f}" if sd is not None else "")
