"""The report as one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drq_sn.report.types import Section, Table

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATE = "page.html.j2"
NUMBER = re.compile(r"\W*(\d.*|nan|inf)?")
WIDTH = re.compile(rb'<svg [^>]*width="([\d.]+)pt"')
ENLARGED = 1.75  # pixels per point; text of 6 and 7 points is readable then
CODE = re.compile("`([^`]+)`")


def render(title: str, summary: Sequence[str], sections: Sequence[Section]) -> bytes:
    """The page; the same parts give the same bytes. All text in them is plain and escaped here."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"caption": caption, "data_uri": data_uri, "kinds": kinds, "code": code, "pixels": pixels}
    return environment.get_template(TEMPLATE).render(title=title, summary=summary, sections=sections).encode()


def caption(name: str) -> str:
    """The name of a file as a caption: `table1_drq` -> `Table 1 drq`."""
    text = re.sub(r"^(table|figure)(?=\d)", r"\1 ", name).replace("_", " ")
    return text[:1].upper() + text[1:]


def kinds(table: Table) -> list[str]:
    """`number` for each column whose cells all start with a number or are empty, else `text`."""
    columns = range(len(table.columns))
    return ["number" if all(NUMBER.fullmatch(row[i]) for row in table.rows) else "text" for i in columns]


def code(text: str) -> Markup:
    """A line of text, escaped; what is between backticks is code."""
    from markupsafe import Markup, escape

    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))


def data_uri(svg: bytes) -> str:
    """An SVG for `src`; inline, the ids of several would clash."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def pixels(svg: bytes) -> int:
    """Width at which the page shows an SVG by matplotlib."""
    match = WIDTH.search(svg)
    return round(ENLARGED * float(match[1])) if match else 0
