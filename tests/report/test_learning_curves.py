"""Panels of learning curves."""

from __future__ import annotations

from drq_sn.report.learning_curves import label_variants, learning_curves, task_panels
from drq_sn.report.types import ReleasedPoint, Variant
from tests.builders import MLP2, MODERN_SN, make_run, svg_texts


def test_a_panel_per_task_has_the_runs_of_each_variant():
    other = make_run({0: 5.0}, variant=Variant("drq", "simba", "none"))
    runs = [make_run({0: 1.0}), make_run({0: 2.0}, seed=2), make_run({0: 3.0}, "walker_run", MODERN_SN), other]
    released = {"cheetah_run": [ReleasedPoint(0, 4, 1, 10)]}
    cheetah, walker, dog = task_panels(runs, ["cheetah_run", "walker_run", "dog_run"], [MLP2, MODERN_SN], released)
    assert {label: [s.values for s in seeds] for label, seeds in cheetah.groups.items()} == {"mlp2": [{0: 1}, {0: 2}]}
    assert list(walker.groups) == ["modern4 + SN"]
    assert (dog.groups, dog.released, cheetah.released) == ({}, (), released["cheetah_run"])


def test_variants_of_two_agents_are_labeled_with_the_agent():
    assert list(label_variants([MLP2, Variant("drqv2", "mlp2", "none")]).values()) == ["drq mlp2", "drqv2 mlp2"]
    assert list(label_variants([MLP2, MODERN_SN]).values()) == ["mlp2", "modern4 + SN"]


def test_the_figure_has_a_text_alternative():
    figure = learning_curves("figure1", [make_run({0: 1.0})], ["cheetah_run"], [MLP2], {}, 20000)
    assert figure.alt.startswith("Learning curves of mlp2 up to 20 thousand frames")
    assert "cheetah_run" in svg_texts(figure.svg)
    assert learning_curves("empty", [], [], [MLP2], {}, 20000).png
