"""CSV, Markdown and LaTeX of small tables."""

from __future__ import annotations

import math

from drq_sn.report.table_formats import (
    aligned,
    format_csv,
    format_departures,
    format_frame,
    format_frames,
    format_latex,
    format_markdown,
    format_number,
)
from drq_sn.report.types import Departure, Table
from tests.builders import DASH

TABLE = Table("t", ("task", "a|b"), [("walker_run", "1 ± 2 †1"), ("50 % & #$", DASH)], ["note: ±_"])


def test_markdown_is_aligned():
    assert format_markdown(TABLE).splitlines() == [
        "| task       |     a\\|b |",
        "| ---------- | -------: |",
        "| walker_run | 1 ± 2 †1 |",
        f"| 50 % & #$  |        {DASH} |",
        "",
        "note: ±_",
    ]


def test_latex_is_ascii_and_escaped():
    strange = Table("t", ("tâche", "a\\"), [("a\nb", "1 ± 2 †1"), ("ü_%", DASH)], ["head=a\r\nb\u2028c ±†"])
    assert format_latex(strange).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\hline",
        r"t?che & a\textbackslash{} \\",
        r"\hline",
        r"a b & 1 $\pm$ 2 $\dagger$1 \\",
        r"?\_\% & -- \\",
        r"\hline",
        r"\end{tabular}",
        "% head=a b c +-(diverged)",
    ]


def test_csv_leaves_missing_values_empty_and_has_all_columns_in_order_of_appearance():
    rows = [{"a": 1.0, "b": math.nan}, {"a": None, "b": 0.25}, {"b": "x, y", "c": math.inf}]
    assert format_csv(rows).decode() == 'a,b,c\n1,,\n,0.25,\n,"x, y",inf\n'
    assert format_csv([{"b": 2}], ("a", "b")).decode() == "a,b\n,2\n"


def test_columns_are_aligned():
    assert aligned([("", "a", "b"), ("xx", "1", "20")], num_left=2) == "    a   b\nxx  1  20"


def test_numbers_and_frames():
    assert [format_number(1.25), format_number(None), format_number(math.nan)] == ["1.2", DASH, DASH]
    assert [format_frame(500_000), format_frame(0), format_frame(None)] == ["500 000", "0", DASH]
    assert [format_frames(f) for f in (0, 16e3, 1.5e6)] == ["0 frames", "16 thousand frames", "1.5 million frames"]


def test_departures_with_several_published_values_are_joined():
    departures = [Departure("a", None, 2), Departure("b", True, "x"), Departure("a", None, 5), Departure("a", None, 2)]
    assert format_departures(departures) == ["a=null (published: 2 or 5)", "b=true (published: x)"]
