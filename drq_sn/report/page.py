"""The report as one HTML page that needs nothing but itself: no network, no script, no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from drq_sn.report.types import Section, Table

TEMPLATE = "page.html.j2"
NUMBER = re.compile(r"\W?\s*(\d|\.\d|nan|inf)")  # after a sign
NOTHING = re.compile(r"\W*|n/a")
WIDTH = re.compile(rb'<svg[^>]*?\swidth="([\d.]+)pt"')
PIXELS_PER_POINT = 4 / 3
LONG = 32  # characters; cells with more are wrapped
LONGEST_WORD = 24
JOINT = re.compile("([_/])")
CODE = re.compile("`([^`]+)`")


def html(title: str, summary: Sequence[str], sections: Sequence[Section]) -> bytes:
    """The page; the same parts are the same bytes.

    Args:
        title: heading of the page.
        summary: lines below it.
        sections: parts in their order; all text in them is plain and shown as it stands.
    """
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    settings: Any = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(loader=loader, autoescape=True, **settings)
    environment.filters.update(
        spoken=spoken, data_uri=data_uri, width=width, kinds=kinds, breakable=breakable, prose=prose
    )
    parts = list(zip(anchors([section.title for section in sections]), sections, strict=True))
    page = environment.get_template(TEMPLATE).render(title=title, summary=summary, parts=parts)
    return page.encode()


def anchors(titles: Iterable[str]) -> list[str]:
    """An id for every title, each another one: `Table 1` -> `table-1`."""
    found: list[str] = []
    for title in titles:
        base = re.sub(r"\W+", "-", title.lower()).strip("-_") or "section"
        number, anchor = 1, base
        while anchor in found:
            number += 1
            anchor = f"{base}-{number}"
        found.append(anchor)
    return found


def spoken(name: str) -> str:
    """The name of a file as a caption: `table1_drq` -> `Table 1 drq`."""
    words = re.sub(r"^(table|figure)(?=\d)", r"\1 ", name).replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def kinds(table: Table) -> list[str]:
    """The kind of every column."""
    return [kind(table.rows, column) for column in range(len(table.columns))]


def kind(rows: Sequence[Sequence[str]], column: int) -> str:
    """`number` for a column whose cells begin with a number or say that there is none, `long` for sentences, else `text`."""
    cells = [row[column].strip() for row in rows]
    if all(NOTHING.fullmatch(cell) or NUMBER.match(cell) for cell in cells):
        return "number"
    return "long" if any(len(cell) > LONG for cell in cells) else "text"


def breakable(text: str, longest: int = 0) -> Any:
    """The text, escaped; in words of more than `longest` characters a line may break after what joins their parts."""
    import markupsafe

    words = re.split(r"(\s+)", text)
    escaped = (str(markupsafe.escape(word)) for word in words)
    return markupsafe.Markup(
        "".join(
            JOINT.sub(r"\1<wbr>", new) if len(old) > longest else new for old, new in zip(words, escaped, strict=True)
        )
    )


def prose(text: str) -> Any:
    """A line of text: what stands between backticks is code, and long folders may be broken."""
    import markupsafe

    return markupsafe.Markup(CODE.sub(r"<code>\1</code>", str(breakable(text, LONGEST_WORD))))


def data_uri(svg: bytes) -> str:
    """An SVG for `src`; inline, the ids of several would clash."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def width(svg: bytes) -> int | None:
    """A figure's own width in pixels, where it tells it; the style sheet says how far it shrinks and grows."""
    found = WIDTH.search(svg[:2000])
    return round(float(found[1]) * PIXELS_PER_POINT) if found else None
