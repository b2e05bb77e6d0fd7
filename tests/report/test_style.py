"""Styles of curves, and images."""

from __future__ import annotations

from xml.etree import ElementTree

from drq_sn.report.curves import Panel, draw
from drq_sn.report.style import PAPER, line_styles, save_figure
from drq_sn.report.types import Series
from tests.builders import svg_texts


def look(style):
    return style["color"], str(style["linestyle"])


def test_the_papers_variants_look_the_same_beside_others():
    together = line_styles([*PAPER, "new"])
    assert all(line_styles([label])[label] == together[label] for label in PAPER)
    assert len({color for color, _ in map(look, line_styles(list(PAPER)).values())}) == 4
    assert len({line for _, line in map(look, line_styles(list(PAPER)).values())}) == 4


def test_every_label_has_its_own_style():
    labels = [*PAPER, *(f"setting {i}" for i in range(24))]
    assert len(set(map(look, line_styles(labels).values()))) == 28


def test_the_same_data_give_the_same_images():
    def save():
        figure = draw([Panel("a $ title", {"m$y": [Series({0.0: 1.0})]})], 10, "y")
        return save_figure("name", "alt", figure)

    figure = save()
    assert figure == save()
    assert figure.pdf.startswith(b"%PDF")
    assert ElementTree.fromstring(figure.svg).tag.endswith("}svg")
    assert {"a $ title", "m$y (1 seed)"} <= {text.replace("\\$", "$") for text in svg_texts(figure.svg)}
