"""Tables as CSV, Markdown and LaTeX, and the formats of their cells."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drq_sn.report.types import Departure, Table, format_value

NO_VALUE = "\N{EN DASH}"
MARKDOWN = str.maketrans({"|": r"\|", "*": r"\*", "<": "&lt;", "\n": " "})


def table_files(table: Table) -> dict[str, bytes]:
    """The files of a table: name -> content."""
    return {
        f"{table.name}.csv": format_csv(table.records, table.fields),
        f"{table.name}.md": format_markdown(table).encode(),
        f"{table.name}.tex": format_latex(table).encode(),
    }


def format_csv(rows: Sequence[Mapping[str, Any]], fields: Sequence[str] | None = None) -> bytes:
    """Rows under `fields`, or all keys in order of appearance; None and NaN are empty, whole floats have no point."""
    buffer = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row)) if fields is None else fields
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue().encode()


def _plain(value: Any) -> Any:
    if not isinstance(value, float) or math.isinf(value):
        return value
    return "" if math.isnan(value) else int(value) if value.is_integer() else value


def format_markdown(table: Table) -> str:
    """A GitHub table, aligned for a terminal too: first column left, the others right, notes below."""
    header, *rows = ([cell.translate(MARKDOWN) for cell in row] for row in (table.columns, *table.rows))
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in (header, rule, *rows):
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\n{note.translate(MARKDOWN)}" for note in table.notes), ""])


def format_latex(table: Table) -> str:
    """A `tabular` in UTF-8 that needs the package booktabs; the notes below it as comments."""
    import pandas as pd  # slow to import

    alignment = "l" + "r" * (len(table.columns) - 1)
    rows = [[" ".join(cell.splitlines()) for cell in row] for row in table.rows]
    tabular: str = pd.DataFrame(rows, columns=table.columns).to_latex(index=False, escape=True, column_format=alignment)
    return tabular + "".join(f"% {' '.join(note.splitlines())}\n" for note in table.notes)


def format_number(value: float | None, digits: int = 1) -> str:
    """`value` rounded, or a dash."""
    return NO_VALUE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def format_mean(mean: float, error: float, digits: int = 1) -> str:
    """`853.2 ± 12.1`."""
    return f"{format_number(mean, digits)} ± {format_number(error, digits)}"


def format_frame(value: float | None) -> str:
    """`500 000`."""
    return NO_VALUE if value is None else f"{value:,.0f}".replace(",", " ")


def format_departures(departures: Iterable[Departure]) -> list[str]:
    """`env.image_size=48 (published: 84)`; several published values of one departure are joined by `or`."""
    published: dict[str, dict[str, None]] = {}
    for departure in departures:
        published.setdefault(departure.assignment, {})[format_value(departure.published)] = None
    return [f"{assignment} (published: {' or '.join(values)})" for assignment, values in published.items()]
