"""Write docs/claims.md from results/claims.yaml and the results it names."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import yaml

from drq_sn.cli.config.identify import read_run
from drq_sn.report.claims import parse_ledger, render
from drq_sn.report.types import Run
from drq_sn.runs.reader import find_runs

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "claims.md"
INTRODUCTION = """
# Claims and evidence

What the papers behind this benchmark claim, and what our own runs say. Verdicts and reasons are written by hand in
`results/claims.yaml`; the tables are computed from `results/` by `make figures`, and a test fails if they differ.
A claim stays open until several seeds at a comparable setting decide it. Hours are wall-clock time, on the machine
that each run's `run.json` names.
"""


def build_page() -> str:
    """The page, from the files of this checkout."""
    read_once = functools.cache(read_run)

    def read_runs(patterns: Sequence[str]) -> list[Run]:
        return [read_once(run_dir) for run_dir in find_runs(patterns)]

    papers = parse_ledger(yaml.safe_load((ROOT / "results" / "claims.yaml").read_text()))
    return render(papers, ROOT, read_runs, INTRODUCTION)


if __name__ == "__main__":
    PAGE.write_text(build_page())
