"""Rows as CSV, and cells aligned for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_of(rows: Sequence[Mapping[str, Any]], fields: Sequence[str] | None = None) -> bytes:
    """Rows under `fields`, or under all that any of them has, in the order in which they appear; what is missing stays empty."""
    buffer = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row)) if fields is None else fields
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def aligned(lines: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """Lines of cells in columns two spaces apart: the first `num_left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    justified = (
        [cell.ljust(w) if i < num_left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    )
    return "\n".join("  ".join(cells).rstrip() for cells in justified)
