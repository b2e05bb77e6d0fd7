"""CSV, Markdown and LaTeX of small tables."""

from __future__ import annotations

import math

from drq_sn.report.table_formats import (
    format_csv,
    format_departures,
    format_frame,
    format_latex,
    format_markdown,
    format_number,
    table_files,
)
from drq_sn.report.types import Departure, Table
from tests.builders import DASH

TABLE = Table(
    "t", ("task", "a|b"), [("walker_run", "1 ± 2 †1"), ("50 % & #$", DASH)], ["note: ±_"], ("y", "x"), [{"x": 1}]
)


def test_a_table_has_three_files():
    markdown, latex = format_markdown(TABLE).encode(), format_latex(TABLE).encode()
    assert table_files(TABLE) == {"t.csv": b"y,x\n,1\n", "t.md": markdown, "t.tex": latex}


def test_markdown_is_aligned():
    assert format_markdown(TABLE).splitlines() == [
        "| task       |     a\\|b |",
        "| ---------- | -------: |",
        "| walker_run | 1 ± 2 †1 |",
        f"| 50 % & #$  |        {DASH} |",
        "",
        "note: ±_",
    ]


def test_latex_is_escaped_and_every_row_is_one_line():
    rows = [("a\nb", "1 ± 2 †1"), ("%", DASH)]
    strange = Table("t", ("task", "a_b"), rows, ["head=a\r\nb"], best=frozenset([(0, 1)]))
    assert format_latex(strange).splitlines() == [
        r"\begin{table}[t]",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        r"\caption{t}",
        r"\label{tab:t}\par\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"task & a\_b \\",
        r"\midrule",
        r"a b & \textbf{1} $\pm$ 2 $\dagger$1 \\",
        r"\% & -- \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
        "% head=a b",
    ]


def test_a_wide_table_spans_both_columns_and_a_long_one_has_no_latex():
    assert r"\begin{table*}" in format_latex(Table("t", ("a", "b"), [("x" * 40, "y" * 40)]))
    assert table_files(Table("t", ("a",), [("x",)] * 51)).keys() == {"t.csv", "t.md"}


def test_csv_leaves_missing_values_empty_and_has_all_columns_in_order_of_appearance():
    rows = [{"a": 1.0, "b": math.nan}, {"a": None, "b": 0.25}, {"b": "x, y", "c": math.inf}]
    assert format_csv(rows).decode() == 'a,b,c\n1,,\n,0.25,\n,"x, y",inf\n'
    assert format_csv([{"b": 2}], ("a", "b")).decode() == "a,b\n,2\n"


def test_numbers_and_frames():
    assert [format_number(1.25), format_number(None), format_number(math.nan)] == ["1.2", DASH, DASH]
    assert [format_frame(500_000), format_frame(0), format_frame(None)] == ["500 000", "0", DASH]


def test_departures_with_several_published_values_are_joined():
    departures = [Departure("a", None, 2), Departure("b", True, "x"), Departure("a", None, 5), Departure("a", None, 2)]
    assert format_departures(departures) == ["a=null (published: 2 or 5)", "b=true (published: x)"]
