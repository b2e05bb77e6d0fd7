"""Styles of curves, and images."""

from __future__ import annotations

from xml.etree import ElementTree

from drq_sn.report.curves import Axis, Panel, draw
from drq_sn.report.style import NUMBERS, line_styles, save_figure
from drq_sn.report.types import Series
from tests.builders import svg_texts

PAPER = ["mlp2", "mlp4", "modern4", "modern4 + SN"]


def look(style):
    return style["color"], str(style["linestyle"])


def test_every_label_has_its_own_style():
    styles = line_styles([*NUMBERS, "new", "newer"])
    assert len(set(map(look, styles.values()))) == len(NUMBERS) + 2
    assert len(set(map(look, line_styles([f"setting {i}" for i in range(28)]).values()))) == 28


def test_a_variant_looks_the_same_beside_others():
    together = line_styles(PAPER)
    assert {label: line_styles([label])[label] for label in PAPER} == together
    assert len({color for color, _ in map(look, together.values())}) == 4
    assert len({line for _, line in map(look, together.values())}) == 4


def test_the_same_data_give_the_same_images():
    def save():
        figure = draw([Panel("a $ title", {"m$y": [Series({0.0: 1.0})]})], Axis(10), "y")
        return save_figure("name", "alt", figure)

    figure = save()
    assert figure == save()
    assert figure.png.startswith(b"\x89PNG")
    assert ElementTree.fromstring(figure.svg).tag.endswith("}svg")
    assert {"a $ title", "m$y (1 seed)"} <= {text.replace("\\$", "$") for text in svg_texts(figure.svg)}
