"""The report's page: what a parser finds in it, and what a browser as narrow as a phone does."""

from __future__ import annotations

import base64
import configparser
import fnmatch
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from drq_sn.report.learning_curves import learning_curves
from drq_sn.report.page import caption, code, kinds, pixels, render
from drq_sn.report.types import Section, Table
from tests.builders import DASH, MODERN_SN, ROOT, make_run

NASTY = '<script>alert("a & b")</script>'
VOID = {"meta", "link", "img"}
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
        self.tags, self.open = [], []
        self.feed(data.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self.open.append(len(self.tags) - 1)

    def handle_endtag(self, tag):
        assert self.tags[self.open.pop()][0] == tag

    def handle_data(self, data):
        for number in self.open:
            self.tags[number][2] += data

    def texts(self, tag):
        return [text.strip() for name, _, text in self.tags if name == tag]

    def attributes(self, name):
        return [attributes[name] for _, attributes, _ in self.tags if name in attributes]


@pytest.fixture(scope="module")
def sections():
    columns = ["task", *(f"variant {i}, paper" for i in range(9))]
    rows = [["runs/" + "very_long_name" * 9, *["812.3 ± 45.6"] * 9], [NASTY, *["a sentence " * 20] * 9]]
    results = Table("table1_drq", columns, rows, ["mean ± sd", NASTY], details=["lr=3e-4"], best=frozenset([(0, 2)]))
    runs = [make_run({0: 1, 10000: 2}, "t"), make_run({0: 2}, "t", MODERN_SN)]
    drawn = learning_curves("figure1", runs, ["t"], {}, 10000)
    return [
        Section("Figure 1", ["text 1", NASTY], ["warning 1", "x" * 200], [results], [drawn]),
        Section(NASTY, warnings=["w"], tables=[Table("none", ["a", "b"], [])]),
    ]


@pytest.fixture(scope="module")
def data(sections):
    return render(f"Title {NASTY}", ["70 runs", NASTY], sections)


@pytest.fixture(scope="module")
def page(data):
    return Page(data)


def test_headings_and_contents(page):
    assert page.texts("h1") == [f"Title {NASTY}"]
    assert page.texts("h2") == ["Figure 1", NASTY]
    assert page.tags[0][:2] == ["html", {"lang": "en"}]
    links = {attributes["href"]: text for tag, attributes, text in page.tags if tag == "a"}
    targets = {f"#{attributes['id']}": attributes["aria-labelledby"] for tag, attributes, _ in page.tags
               if tag == "section"}  # fmt: skip
    assert links.keys() == targets.keys()
    assert list(links.values()) == page.texts("h2")
    assert {*targets.values()} <= {*page.attributes("id")}


def test_nothing_is_fetched_and_nothing_runs(page, data):
    addresses = [*page.attributes("src"), *page.attributes("href")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(rb"url\(|@import|<script|srcset|\son\w+=", data)
    assert page.attributes("content")[-1].startswith("default-src 'none'; img-src data:;")


def test_images_are_what_was_drawn_and_have_a_text_alternative(page, sections):
    images = [attributes for tag, attributes, _ in page.tags if tag == "img"]
    drawn = [figure for section in sections for figure in section.figures]
    assert [image["alt"] for image in images] == [figure.alt for figure in drawn]
    assert [base64.b64decode(image["src"].split(",")[1]) for image in images] == [figure.svg for figure in drawn]


def test_every_cell_note_line_and_warning_is_there_as_text(page, sections):
    (table,) = sections[0].tables
    assert page.texts("td") == [*(cell.strip() for row in table.rows for cell in row[1:]), "no rows"]
    assert page.texts("th") == [*table.columns, *(row[0] for row in table.rows), "a", "b"]
    assert [text for _, attributes, text in page.tags if "best" in attributes.get("class", "")] == ["812.3 ± 45.6"]
    assert page.texts("details") == ["Options that differ from the published setting\n\nlr=3e-4"]
    assert page.texts("caption") == ["Table 1 drq", "None"]
    assert {"70 runs", "warning 1", "mean ± sd", NASTY} <= set(page.texts("li"))
    assert {"text 1", NASTY, "Warnings"} <= set(page.texts("p"))
    assert [text for _, attributes, text in page.tags if attributes.get("class") == "count"] == [
        "2 warnings", "1 warning"
    ]  # fmt: skip


def test_the_same_page_twice(data, sections):
    assert render(f"Title {NASTY}", ["70 runs", NASTY], sections) == data


def test_names_of_files_as_captions():
    assert [caption(name) for name in ("table1", "figure3_drq", "runs")] == ["Table 1", "Figure 3 drq", "Runs"]


def test_columns_of_numbers():
    columns = [["812 ± 3 (9.1, 10) †1", "\u22122.5"], [DASH, ""], ["nan", "< 4"], ["12", "diverged"]]
    rows = list(zip(*columns, strict=True))
    assert kinds(Table("t", "abcd", rows)) == ["number", "number", "number", "text"]


def test_what_is_between_backticks_is_code():
    assert code("`make <x>`, `") == "<code>make &lt;x&gt;</code>, `"


def test_images_are_shown_larger_than_in_a_paper(sections):
    assert pixels(sections[0].figures[0].svg) == round(3.3 * 72 * 1.75)  # a column of a paper, in points


def test_all_that_the_page_is_made_of_is_packaged():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    patterns = settings["options.package_data"]["drq_sn.report"].split(", ")
    others = [path.name for path in (ROOT / "drq_sn" / "report").iterdir() if path.is_file() and path.suffix != ".py"]
    assert sorted(others) == ["page.css", "page.html.j2"]
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in patterns) for name in others)


def test_a_phone_shows_the_page_without_scrolling_sideways(tmp_path, data):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on this machine")
    (tmp_path / "frame.html").write_text(FRAME.format(*PHONE, html.escape(data.decode())))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *options, "--hide-scrollbars", "--dump-dom", (tmp_path / "frame.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    probe = re.search(r'<pre id="probe">(.+?)</pre>', shown.stdout)
    assert probe, shown.stderr[-2000:]
    found = json.loads(probe[1])
    assert found["scroll"] == PHONE[0]
    assert min(found["images"]) > 0
