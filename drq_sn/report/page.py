"""The report as one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from drq_sn.report.types import Section, Table

TEMPLATE = "page.html.j2"
NUMBER = re.compile(r"\W?\s*(\d|\.\d|nan|inf)")  # after a sign
NO_TEXT = re.compile(r"\W*|n/a")
WIDTH = re.compile(rb'<svg[^>]*?\swidth="([\d.]+)pt"')
PIXELS_PER_POINT = 4 / 3
LONG = 32  # characters; longer cells are wrapped
LONGEST_UNBROKEN = 24  # characters of a path in a line of text
JOINT = re.compile("([_/])")
CODE = re.compile("`([^`]+)`")


def render(title: str, summary: Sequence[str], sections: Sequence[Section]) -> bytes:
    """The page; the same parts give the same bytes.

    Args:
        title: heading of the page.
        summary: lines below it.
        sections: parts in their order; all text in them is plain and escaped here.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "caption": caption, "data_uri": data_uri, "width": width, "kinds": kinds, "breakable": breakable,
        "prose": prose,
    }  # fmt: skip
    parts = list(zip(anchors([section.title for section in sections]), sections, strict=True))
    return environment.get_template(TEMPLATE).render(title=title, summary=summary, parts=parts).encode()


def anchors(titles: Iterable[str]) -> list[str]:
    """A unique id for every title: `Table 1` -> `table-1`."""
    ids: list[str] = []
    for title in titles:
        base = re.sub(r"\W+", "-", title.lower()).strip("-_") or "section"
        number, anchor = 1, base
        while anchor in ids:
            number += 1
            anchor = f"{base}-{number}"
        ids.append(anchor)
    return ids


def caption(name: str) -> str:
    """The name of a file as a caption: `table1_drq` -> `Table 1 drq`."""
    text = re.sub(r"^(table|figure)(?=\d)", r"\1 ", name).replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def kinds(table: Table) -> list[str]:
    """The kind of every column; see `column_kind`."""
    return [column_kind([row[column].strip() for row in table.rows]) for column in range(len(table.columns))]


def column_kind(cells: Sequence[str]) -> str:
    """`number` if all cells start with a number or are empty, `long` for sentences, else `text`."""
    if all(NO_TEXT.fullmatch(cell) or NUMBER.match(cell) for cell in cells):
        return "number"
    return "long" if any(len(cell) > LONG for cell in cells) else "text"


def breakable(text: str, longest: int = 0) -> Any:
    """The text, escaped, with line breaks allowed after `_` and `/` in strings of more than `longest` characters."""
    import markupsafe

    pieces = [(piece, str(markupsafe.escape(piece))) for piece in re.split(r"(\s+)", text)]
    return markupsafe.Markup(
        "".join(JOINT.sub(r"\1<wbr>", escaped) if len(piece) > longest else escaped for piece, escaped in pieces)
    )


def prose(text: str) -> Any:
    """A line of text: what is between backticks is code, and long paths may be broken."""
    import markupsafe

    return markupsafe.Markup(CODE.sub(r"<code>\1</code>", str(breakable(text, LONGEST_UNBROKEN))))


def data_uri(svg: bytes) -> str:
    """An SVG for `src`; inline, the ids of several would clash."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def width(svg: bytes) -> int | None:
    """A figure's width in pixels; None if the file has none."""
    match = WIDTH.search(svg[:2000])
    return round(float(match[1]) * PIXELS_PER_POINT) if match else None
