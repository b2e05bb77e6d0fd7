"""Rows as CSV and as text, letter by letter."""

from __future__ import annotations

import pytest

from drq_sn.report.table_formats import aligned, csv_of


def test_columns_are_all_that_any_row_has_and_gaps_stay_empty():
    assert csv_of([{"a": 1, "b": 0.5}, {"b": "x, y", "c": None}]) == b'a,b,c\n1,0.5,\n,"x, y",\n'


def test_named_columns_stand_also_without_rows_and_unknown_ones_are_refused():
    assert csv_of([], ("a", "b")) == b"a,b\n"
    with pytest.raises(ValueError, match="c"):
        csv_of([{"c": 1}], ("a", "b"))


def test_cells_are_aligned():
    lines = [("name", "n", "mean"), ("a", "10", "2.5"), ("long one", "1", "")]
    assert aligned(lines) == "name       n  mean\na         10   2.5\nlong one   1"
    assert aligned(lines, num_left=3) == "name      n   mean\na         10  2.5\nlong one  1"
