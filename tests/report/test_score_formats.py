"""Markdown, LaTeX, text and CSV of small tables."""

from __future__ import annotations

import csv
import math

from drq_sn.report.score_formats import csv_bytes, frames, latex, markdown, number, text
from drq_sn.report.types import Table
from tests.report.synthetic_runs import DASH

TABLE = Table("t", ("task", "a|b"), [("walker_run", "1 ± 2 †1"), ("50 % & #$", DASH)], ["note: ±_"])


def test_markdown():
    assert markdown(TABLE).decode().splitlines() == [
        "| task | a\\|b |",
        "| --- | ---: |",
        "| walker\\_run | 1 ± 2 †1 |",
        f"| 50 % & #$ | {DASH} |",
        "",
        "note: ±\\_",
    ]


def test_latex_is_ascii_and_escaped():
    assert latex(TABLE).decode("ascii").splitlines() == [
        r"\begin{tabular}{lr}",
        r"\hline",
        r"task & a|b \\",
        r"\hline",
        r"walker\_run & 1 $\pm$ 2 $\dagger$1 \\",
        r"50 \% \& \#\$ & -- \\",
        r"\hline",
        r"\end{tabular}",
        "% note: +-_",
    ]
    assert r"\textbackslash{}" in latex(Table("t", ("a\\",), [])).decode()


def test_latex_stays_ascii_and_in_its_lines_whatever_stands_in_cells_and_notes():
    strange = Table("t", ("tâche",), [("a\nb",), ("ü ± ß",)], ["head=a\r\nb\nc\u2028d"])
    assert latex(strange).decode("ascii").splitlines()[2:] == [
        r"t?che \\",
        r"\hline",
        r"a b \\",
        r"? $\pm$ ? \\",
        r"\hline",
        r"\end{tabular}",
        "% head=a b c d",
    ]


def test_text_is_aligned():
    assert text(TABLE).splitlines() == [
        "task             a|b",
        "walker_run  1 ± 2 †1",
        f"50 % & #$          {DASH}",
        "note: ±_",
    ]


def test_csv_leaves_empty_what_is_no_number():
    rows = [{"a": 1.0, "b": math.nan}, {"a": None, "b": 0.25}, {"b": "x, y"}]
    assert csv_bytes(("a", "b"), rows).decode() == 'a,b\n1,\n,0.25\n,"x, y"\n'
    assert list(csv.DictReader(csv_bytes(("a", "b"), rows).decode().splitlines()))[2]["b"] == "x, y"


def test_numbers():
    assert [number(1.25, 1), number(None), number(math.nan)] == ["1.2", DASH, DASH]
    assert [frames(500_000), frames(0), frames(None)] == ["500 000", "0", DASH]
