"""Panels of learning curves."""

from __future__ import annotations

from drq_sn.report.learning_curves import learning_curves, task_panels
from drq_sn.report.published import ReleasedPoint
from tests.builders import MODERN_SN, make_run, svg_texts


def test_a_panel_per_task_has_the_runs_of_each_variant():
    runs = [make_run({0: 1.0}), make_run({0: 2.0}, seed=2), make_run({0: 3.0}, "walker_run", MODERN_SN)]
    released = {"cheetah_run": [ReleasedPoint(0, 4, 1, 10)]}
    cheetah, walker = task_panels(runs, ["cheetah_run", "dog_run", "walker_run"], released)
    assert {label: [s.values for s in seeds] for label, seeds in cheetah.groups.items()} == {"mlp2": [{0: 1}, {0: 2}]}
    assert list(walker.groups) == ["modern4 + SN"]
    assert (walker.released, cheetah.released) == ((), released["cheetah_run"])


def test_the_figure_has_a_text_alternative():
    figure = learning_curves("figure1", [make_run({20000: 1.0, 40000: 2.0})], ["cheetah_run"], {}, 30000)
    assert figure.alt.startswith("Learning curves of mlp2 up to frame 20 000")
    assert "cheetah_run" in svg_texts(figure.svg)


def test_the_axis_reaches_a_divergence():
    run = make_run({20000: 1.0}, status="diverged", record={"frame": 30000})
    assert "up to frame 30 000" in learning_curves("figure1", [run], ["cheetah_run"], {}).alt
