"""The report's page: what a parser finds in it, and what a browser with the screen of a phone does."""

from __future__ import annotations

import base64
import configparser
import fnmatch
import html as entities
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from drq_sn.report.learning_curves import learning_curves
from drq_sn.report.page import anchors, breakable, caption, column_kind, prose, render, width
from drq_sn.report.types import Figure, Section, Table
from tests.builders import MLP2, MODERN_SN, make_run

SVG = b'<svg width="900pt" height="300pt" xmlns="http://www.w3.org/2000/svg"><rect id="a" width="9"/></svg>'
NASTY = '<script>alert("a & b")</script>'
WIDE = ["task", *(f"variant {i}, paper" for i in range(9))]
EMPTY = {"meta", "link", "input", "img", "path", "wbr"}
PHONE = (390, 844)
# a browser's window is never as narrow as a phone, but a frame in it is
FRAME = """<!DOCTYPE html><iframe width="{}" height="{}" style="border: 0" srcdoc="{}"></iframe>
<pre id="probe"></pre><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const found = {{scroll: page.documentElement.scrollWidth, images: [...page.images].map(image => image.naturalWidth)}};
  document.body.innerHTML = `<pre id="probe">${{JSON.stringify(found)}}</pre>`;
}})</script>"""


class Page(HTMLParser):
    """Tags with their attributes and the text in them, in order; refuses tags that are not closed."""

    def __init__(self, data):
        super().__init__()
        self.found, self.open = [], []
        self.feed(data.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])
        if tag not in EMPTY:
            self.open.append(len(self.found) - 1)

    def handle_startendtag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self.found[self.open.pop()][0] == tag

    def handle_data(self, data):
        for number in self.open:
            self.found[number][2] += data

    def texts(self, tag):
        return [text.strip() for name, _, text in self.found if name == tag]

    def attributes(self, name):
        return [attributes[name] for _, attributes, _ in self.found if name in attributes]


@pytest.fixture(scope="module")
def sections():
    results = Table("table1_drq", WIDE, [[f"task_{i}", *["812.3 ± 45.6"] * 9] for i in range(3)], ["mean ± sd", NASTY])
    runs = Table(
        "runs", ["folder", "status"], [[NASTY, "diverged"], ["runs/" + "very_long_name" * 9, "a sentence " * 20]]
    )
    drawn = learning_curves(
        "figure1",
        [make_run({0: 1, 10000: 2}, "t"), make_run({0: 2}, "t", MODERN_SN)],
        ["t"],
        [MLP2, MODERN_SN],
        {},
        10000,
    )
    return [
        Section(
            "Figure 1",
            ["text 1", NASTY],
            ["warning 1", "x" * 200],
            [results],
            [Figure("a", NASTY, SVG, b"")],
        ),
        Section("Figure 1", figures=[drawn]),
        Section(NASTY, warnings=["w"], tables=[runs, Table("none", ["a", "b"], [])]),
    ]


@pytest.fixture(scope="module")
def data(sections):
    return render(f"Title {NASTY}", ["70 runs", NASTY], sections)


@pytest.fixture(scope="module")
def page(data):
    return Page(data)


def test_headings(page):
    assert page.texts("h1") == [f"Title {NASTY}"]
    assert page.texts("h2") == ["Figure 1", "Figure 1", NASTY]
    assert page.found[0][0] == "html"
    assert page.found[0][1] == {"lang": "en"}
    assert ["meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}, ""] in page.found


def test_contents_lead_to_every_section(page):
    links = [(attributes["href"], text) for tag, attributes, text in page.found if tag == "a"]
    assert links == [("#s-figure-1", "Figure 1"), ("#s-figure-1-2", "Figure 1"), ("#s-script-alert-a-b-script", NASTY)]
    assert [f"#{attributes['id']}" for tag, attributes, _ in page.found if tag == "section"] == [
        link for link, _ in links
    ]


def test_ids_are_unique_and_references_lead_somewhere(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {*page.attributes("aria-labelledby"), *page.attributes("for")} <= set(ids)


def test_nothing_is_fetched_and_nothing_runs(page, data):
    addresses = [*page.attributes("src"), *page.attributes("href")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(rb"url\(|@import|<script|srcset|\son\w+=", data)
    assert page.attributes("content")[-1].startswith("default-src 'none'; img-src data:;")


def test_images_have_words_and_are_what_was_drawn(page, sections):
    images = [attributes for tag, attributes, _ in page.found if tag == "img"]
    drawn = [figure for section in sections for figure in section.figures]
    assert [image["alt"] for image in images] == [figure.alt for figure in drawn]
    assert [base64.b64decode(image["src"].split(",")[1]) for image in images] == [figure.svg for figure in drawn]


def test_every_cell_note_line_and_warning_is_there_as_text(page, sections):
    tables = [table for section in sections for table in section.tables]
    cells = [cell.strip() for table in tables for row in table.rows for cell in row[1:]]
    assert [text for text in page.texts("td") if text != "no rows"] == cells
    heads = [list(part) for table in tables for part in (table.columns, [row[0] for row in table.rows])]
    assert page.texts("th") == [cell for part in heads for cell in part]
    assert page.texts("caption") == ["Table 1 drq", "Runs", "None"]
    assert {"70 runs", "warning 1", "mean ± sd", NASTY} <= set(page.texts("li"))
    assert {"text 1", NASTY} <= set(page.texts("p"))


def test_warnings_say_so_in_words(page):
    boxes = [text for _, attributes, text in page.found if attributes.get("role") == "alert"]
    assert len(boxes) == 2
    assert "Warnings" in boxes[0]
    assert "warning 1" in boxes[0]
    assert [text for _, attributes, text in page.found if attributes.get("class") == "count"] == [
        "2 warnings",
        "1 warning",
    ]


def test_the_same_page_twice(data, sections):
    assert render(f"Title {NASTY}", ["70 runs", NASTY], sections) == data


def test_a_page_of_nothing_is_a_page():
    assert Page(render("Empty", [], [])).texts("h1") == ["Empty"]


def test_anchors_are_unique():
    assert anchors(["Table 1", "table 1!", "Table 1 2", "Ω", "!"]) == [
        "table-1",
        "table-1-2",
        "table-1-2-2",
        "ω",
        "section",
    ]


@pytest.mark.parametrize(
    ("name", "words"), [("table1", "Table 1"), ("figure3_drq", "Figure 3 drq"), ("runs_drqv2", "Runs drqv2")]
)
def test_names_of_files_as_captions(name, words):
    assert caption(name) == words


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "\u22122.5 ± 3", "\u2013", "", "< 4"], "number"),
        (["nan", "812 (9 of 10)"], "number"),
        (["\u2013", ""], "number"),
        (["12", "diverged"], "text"),
        (["12", "a sentence that is long enough to wrap"], "long"),
    ],
)
def test_kinds_of_columns(cells, expected):
    assert column_kind(cells) == expected


def test_all_that_the_page_is_made_of_is_packaged():
    root = Path(__file__).resolve().parents[2]
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg")
    patterns = settings["options.package_data"]["drq_sn.report"].split(", ")
    others = [path.name for path in (root / "drq_sn" / "report").iterdir() if path.is_file() and path.suffix != ".py"]
    assert sorted(others) == ["page.css", "page.html.j2"]
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in patterns) for name in others)


def test_long_words_may_be_broken_and_code_is_code():
    assert breakable("a_b<c/d") == "a_<wbr>b&lt;c/<wbr>d"
    assert prose("a_b " + "a/" * 13) == "a_b " + "a/<wbr>" * 13
    assert prose("`make <x>`, `") == "<code>make &lt;x&gt;</code>, `"


def test_figures_tell_their_width(page):
    assert width(SVG) == 1200  # 900 pt
    assert width(b"<svg/>") is None
    images = [attributes for tag, attributes, _ in page.found if tag == "img"]
    assert images[0]["style"] == "--width: 1200px"


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Opens a page in a browser as wide as a phone; returns what the probe found."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on this machine")

    def open_page(data):
        folder = tmp_path_factory.mktemp("browser")
        frame = folder / "frame.html"
        frame.write_text(FRAME.format(*PHONE, entities.escape(data.decode())))
        words = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
            "--hide-scrollbars",
        ]
        shown = subprocess.run(
            [browser, *words, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=120
        )
        probe = re.search(r'<pre id="probe">(.+?)</pre>', shown.stdout)
        assert probe, shown.stderr[-2000:]
        return json.loads(probe[1])

    return open_page


def test_a_phone_shows_the_page_without_scrolling_sideways(browse, data):
    found = browse(data)
    assert found["scroll"] == PHONE[0]
    assert len(found["images"]) == 2
    assert min(found["images"]) > 0


def test_the_browser_would_tell(browse, data):
    broken = data.replace(b".scroll { overflow-x: auto; max-width: 100%; }", b"").replace(
        b"base64,PHN2", b"base64,AAAA"
    )
    assert broken != data
    found = browse(broken)
    assert found["scroll"] > PHONE[0]
    assert min(found["images"]) == 0
