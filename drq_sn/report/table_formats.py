"""Tables as CSV, Markdown and LaTeX, and the formats of their cells."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drq_sn.report.types import Departure, Table, format_value

NO_VALUE = "\N{EN DASH}"
COLUMN_CHARACTERS = 60  # that fit into one column of a page with two
PAGE_ROWS = 50  # that fit on a page
LATEX = str.maketrans({
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$",
    "|": "$|$", "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{DAGGER}": r"$\dagger$", NO_VALUE: "--",
    "\N{GREEK SMALL LETTER SIGMA}": r"$\sigma$",
})  # fmt: skip
MARKDOWN = str.maketrans({"|": r"\|", "*": r"\*", "<": "&lt;", "\n": " "})


def table_files(table: Table) -> dict[str, bytes]:
    """The files of a table: name -> content; LaTeX only if it fits on a page."""
    files = {
        f"{table.name}.csv": format_csv(table.records, table.fields),
        f"{table.name}.md": format_markdown(table).encode(),
    }
    return files | ({f"{table.name}.tex": format_latex(table).encode()} if len(table.rows) <= PAGE_ROWS else {})


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
    return "\n".join([*lines, *(f"\n{note.translate(MARKDOWN)}" for note in (*table.notes, *table.details)), ""])


def format_latex(table: Table) -> str:
    """A `table` with caption and label that needs booktabs and graphicx; it shrinks to the width of the page.

    Wide ones span both columns of a page with two. The best values are bold, the notes are comments.
    """
    columns, rows = table.columns, table.latex or table.rows
    wide = "*" if sum(max(map(len, column)) for column in zip(columns, *rows, strict=True)) > COLUMN_CHARACTERS else ""
    cells = [
        [_bold(_latex(cell)) if (i, j) in table.best else _latex(cell) for j, cell in enumerate(row)]
        for i, row in enumerate(rows)
    ]
    header, *body = (" & ".join(row) + r" \\" for row in ([_latex(title) for title in columns], *cells))
    return "\n".join([
        rf"\begin{{table{wide}}}[t]",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_latex(table.caption or table.name)}}}",
        rf"\label{{tab:{table.name}}}\par\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\end{{table{wide}}}",
        *(f"% {' '.join(note.splitlines())}" for note in (*table.notes, *table.details)),
        "",
    ])  # fmt: skip


def _bold(cell: str) -> str:
    value, space, rest = cell.partition(" ")
    return rf"\textbf{{{value}}}{space}{rest}"


def _latex(text: str) -> str:
    return " ".join(text.splitlines()).translate(LATEX)


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
