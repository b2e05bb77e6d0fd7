"""Tables as CSV, Markdown and LaTeX, and the formats of their cells."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drq_sn.report.types import Departure, Table, format_value

NO_VALUE = "\N{EN DASH}"
LATEX = {
    **{character: f"\\{character}" for character in "_&%#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    NO_VALUE: "--",
}
LATEX_COMMENT = {"±": "+-", "†": "(diverged)", NO_VALUE: "--"}
MARKDOWN = {"|": r"\|", "*": r"\*", "<": "&lt;", "\n": " "}


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
    header, *rows = (_escape(row, MARKDOWN) for row in (table.columns, *table.rows))
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [f"| {' | '.join(_justify(row, widths))} |" for row in (header, rule, *rows)]
    return "\n".join([*lines, *(f"\n{note}" for note in _escape(table.notes, MARKDOWN)), ""])


def format_latex(table: Table) -> str:
    """A `tabular` that needs no package, in ASCII; the notes below it as comments."""
    header, *rows = (" & ".join(_ascii(_escape(row, LATEX))) + r" \\" for row in (table.columns, *table.rows))
    columns = "l" + "r" * (len(table.columns) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", header, r"\hline", *rows, r"\hline", r"\end{tabular}"]
    return "\n".join([*body, *_ascii(f"% {note}" for note in _escape(table.notes, LATEX_COMMENT)), ""])


def _ascii(lines: Iterable[str]) -> list[str]:
    return [" ".join(line.splitlines()).encode("ascii", "replace").decode() for line in lines]


def _escape(cells: Iterable[str], replaced: Mapping[str, str]) -> list[str]:
    return ["".join(replaced.get(character, character) for character in cell) for cell in cells]


def aligned(lines: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """Lines of cells in columns two spaces apart: the first `num_left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(_justify(line, widths, num_left)).rstrip() for line in lines)


def _justify(cells: Sequence[str], widths: Sequence[int], num_left: int = 1) -> list[str]:
    pairs = enumerate(zip(cells, widths, strict=True))
    return [cell.ljust(width) if i < num_left else cell.rjust(width) for i, (cell, width) in pairs]


def format_number(value: float | None, digits: int = 1) -> str:
    """`value` rounded, or a dash."""
    return NO_VALUE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def format_mean(mean: float, error: float, digits: int = 1) -> str:
    """`853.2 ± 12.1`."""
    return f"{format_number(mean, digits)} ± {format_number(error, digits)}"


def format_frame(value: float | None) -> str:
    """`500 000`."""
    return NO_VALUE if value is None else f"{value:,.0f}".replace(",", " ")


def format_frames(frame: float) -> str:
    """`500 thousand frames`."""
    size, unit = (1e6, "million ") if frame >= 1e6 else (1e3, "thousand ") if frame >= 1e3 else (1, "")
    return f"{frame / size:g} {unit}frames"


def format_departures(departures: Iterable[Departure]) -> list[str]:
    """`env.image_size=48 (published: 84)`; several published values of one departure are joined by `or`."""
    published: dict[str, dict[str, None]] = {}
    for departure in departures:
        published.setdefault(departure.assignment, {})[format_value(departure.published)] = None
    return [f"{assignment} (published: {' or '.join(values)})" for assignment, values in published.items()]
