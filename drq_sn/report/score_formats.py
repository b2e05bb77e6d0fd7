"""A table as Markdown, LaTeX, plain text, and rows as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from drq_sn.report.table_formats import aligned, csv_of
from drq_sn.report.types import Table

ABSENT = "\N{EN DASH}"
LATEX = {
    **{character: f"\\{character}" for character in "_&%#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    ABSENT: "--",
}
MARKDOWN = {"|": r"\|", "_": r"\_", "*": r"\*", "<": "&lt;", "\n": " "}


def markdown(table: Table) -> bytes:
    """A table of GitHub's kind, first column to the left and the others to the right, and the notes below it."""
    lines = [_escaped(table.columns, MARKDOWN), ["---", *["---:"] * (len(table.columns) - 1)]]
    lines += [_escaped(row, MARKDOWN) for row in table.rows]
    notes = [f"\n{''.join(MARKDOWN.get(c, c) for c in note)}" for note in table.notes]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), *notes, ""]).encode()


def latex(table: Table) -> bytes:
    """A `tabular` that needs no package, in ASCII; the notes below it as comments."""
    lines = [" & ".join(_ascii(_escaped(row, LATEX))) + r" \\" for row in (table.columns, *table.rows)]
    notes = [f"% {note}" for note in table.notes]
    columns = "l" + "r" * (len(table.columns) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}"]
    return ("\n".join([*body, *_ascii(notes)]) + "\n").encode()


def _ascii(lines: Sequence[str]) -> list[str]:
    """Each in one line, which a comment needs to stay one."""
    plain = {"±": "+-", "†": "(crashed)", ABSENT: "--"}
    whole = (" ".join(line.splitlines()) for line in lines)
    return ["".join(plain.get(c, c) for c in line).encode("ascii", "replace").decode() for line in whole]


def _escaped(cells: Sequence[str], replaced: Mapping[str, str]) -> list[str]:
    return ["".join(replaced.get(character, character) for character in cell) for cell in cells]


def text(table: Table) -> str:
    """Columns aligned for a terminal, the notes below."""
    return "\n".join([aligned([table.columns, *table.rows]), *table.notes])


def csv_bytes(fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows under `fields`; None and NaN as empty cells, whole numbers without a point."""
    return csv_of([{field: _plain(value) for field, value in row.items()} for row in rows], fields)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "" if math.isnan(value) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def number(value: float | None, digits: int = 1) -> str:
    """`value` rounded, or a dash."""
    return ABSENT if value is None or math.isnan(value) else f"{value:.{digits}f}"


def frames(value: float | None) -> str:
    """`500 000`."""
    return ABSENT if value is None else f"{value:,.0f}".replace(",", " ")
