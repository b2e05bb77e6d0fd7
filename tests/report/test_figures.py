"""The report's figures, read back from matplotlib's axes, against means and errors worked out by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from drq_sn.report import aggregate_figure, dynamics_figure, figures, learning_curves
from drq_sn.report.curves import RETURN
from drq_sn.report.style import NUMBERS, canvas, in_frames, looks, names
from drq_sn.report.types import Aggregates, Interval, ReleasedPoint, ScoredRun, Variant
from drq_sn.runs.reader import Run
from drq_sn.runs.status import Status
from tests.report.test_curves import log_of
from tests.report.test_dynamics_figure import texts

MLP2, MLP4 = Variant("drq", "mlp2", "none"), Variant("drq", "mlp4", "none")
MODERN, SN = Variant("drq", "modern4", "none"), Variant("drq", "modern4", "spectral")
PAPER = [MLP2, MLP4, MODERN, SN]


def run(returns, variant=MLP2, seed=1, status="finished", task="t", end=0):
    """A run whose evaluations at 0, 10 000, 20 000, ... frames are `returns`, and which trained to frame `end`."""
    evaluations = {10000.0 * i: float(value) for i, value in enumerate(returns)}
    logs = {"train.csv": log_of(frame=[end], **{"grad_norm/critic": [2.5]})}
    if returns:
        logs["eval.csv"] = log_of(frame=list(evaluations), episode_return_mean=returns)
    return ScoredRun(
        Run(Path(f"runs/{task}/seed_{seed}"), task, seed, Status(status), logs), variant, (), {}, evaluations
    )


def drawn(runs, tasks=("t",), variants=PAPER, released=None, last_frame=20000):
    panels = learning_curves.panels_of(runs, tasks, variants)
    return learning_curves.draw(panels, released or {}, last_frame)


def curve_of(line):
    """Points of a line that are drawn."""
    points = np.asarray(line.get_xydata())
    return points[~np.isnan(points[:, 1])].tolist()


def solid(axes):
    return [line for line in axes.lines if line.get_zorder() == 3]


def thin(axes):
    return [line for line in axes.lines if line.get_zorder() == 2.5]


def crosses(axes):
    return [line.get_xydata().tolist()[0] for line in axes.lines if line.get_marker() == "x"]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_mean_and_standard_error():
    (axes,) = drawn([run([100, 300, 600]), run([200, 500, 600], seed=2)]).axes
    assert curve_of(solid(axes)[0]) == [[0, 150], [10, 400], [20, 600]]
    band = axes.collections[0].get_paths()[0].vertices
    edges = [(band[band[:, 0] == x][:, 1].min(), band[band[:, 0] == x][:, 1].max()) for x in (0, 10, 20)]
    np.testing.assert_allclose(
        edges, [(100, 200), (300, 500), (600, 600)]
    )  # sd of two / sqrt(2) is half their distance
    assert thin(axes) == []
    assert axes.get_title() == "t"


def test_a_crashed_run_goes_on_with_its_last_score_and_bears_a_cross():
    runs = [run([100, 300], status="crashed", end=14000), run([200, 500, 700], seed=2)]
    figure = drawn(runs)
    (axes,) = figure.axes
    assert curve_of(solid(axes)[0]) == [[0, 150], [10, 400], [20, 500]]
    assert thin(axes) == []
    assert crosses(axes) == [[14, 300]]
    assert legend(figure)[0] == "mlp2 (2 seeds, 1 crashed)"
    assert learning_curves.LEGEND["cross"] in legend(figure)
    assert "mlp2 500 ± 200 (2 seeds, 1 crashed)" in learning_curves.describe(
        learning_curves.panels_of(runs, ["t"], PAPER), {}, 20000
    )


def test_a_crash_goes_on_to_the_end_though_no_other_run_is_there():
    figure = drawn([run([100, 300], status="crashed", end=14000)], last_frame=50000)
    assert curve_of(solid(figure.axes[0])[0]) == [[0, 100], [10, 300], [50, 300]]
    assert learning_curves.LEGEND["band"] not in legend(figure)  # one seed has no error


def test_a_crash_after_the_last_frame_is_not_seen():
    (axes,) = drawn([run([100, 300, 200], status="crashed", end=24000)], last_frame=10000).axes
    assert curve_of(solid(axes)[0]) == [[0, 100], [10, 300]]
    assert crosses(axes) == []


def test_where_seeds_are_missing_the_curve_is_thin():
    figure = drawn([run([100, 300, 600]), run([200, 500], seed=2, status="running")])
    (axes,) = figure.axes
    assert curve_of(solid(axes)[0]) == [[0, 150], [10, 400]]
    assert curve_of(thin(axes)[0]) == [[10, 400], [20, 600]]
    assert thin(axes)[0].get_color() == solid(axes)[0].get_color()
    assert thin(axes)[0].get_linewidth() < solid(axes)[0].get_linewidth()
    assert learning_curves.LEGEND["thin"] in legend(figure)


def test_the_curve_is_thin_on_both_sides_of_a_frame_that_one_seed_left_out():
    rarely = dataclasses.replace(run([], seed=2), evaluations={0.0: 100.0, 20000.0: 200.0})
    (axes,) = drawn([run([100, 300, 600]), rarely]).axes
    assert curve_of(thin(axes)[0]) == [[0, 100], [10, 300], [20, 400]]
    assert curve_of(solid(axes)[0]) == [[0, 100], [20, 400]]
    assert np.isnan(solid(axes)[0].get_ydata()[1])  # no line across


def test_a_run_without_an_evaluation_is_a_missing_seed():
    (axes,) = drawn([run([100, 300]), run([], seed=2, status="failed")]).axes
    assert curve_of(solid(axes)[0]) == []
    assert curve_of(thin(axes)[0]) == [[0, 100], [10, 300]]


@pytest.mark.parametrize(("top", "limits"), [(1000, (-25, 1025)), (1001, None), (-1, None)])
def test_panels_share_the_scale_of_returns_where_they_can(top, limits):
    figure = drawn([run([0, top]), run([0, 900], task="u")], tasks=["u", "t"])
    assert figure.axes[0].get_ylim() == (-25, 1025)
    assert (figure.axes[1].get_ylim() == (-25, 1025)) == (limits is not None)
    assert figure.axes[1].yaxis.get_tick_params()["labelleft"] == (limits is None)


def test_released_points_are_drawn_up_to_the_last_frame():
    points = [ReleasedPoint(0, 40, 10, 10), ReleasedPoint(20000, 400, 30, 10), ReleasedPoint(40000, 900, 30, 10)]
    figure = drawn([run([100, 300, 600])], tasks=["t", "u"], released={"t": points})
    (bars,) = figure.axes[0].containers
    assert bars.lines[0].get_xydata().tolist() == [[0, 40], [20, 400]]
    assert [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()] == [[30, 50], [370, 430]]
    assert figure.axes[1].texts[0].get_text() == "no runs"
    assert learning_curves.LEGEND["released"] in legend(figure)


def test_fifteen_tasks_stand_in_three_rows_and_a_long_axis_counts_millions():
    figure = drawn([run([1], task="t3")], tasks=[f"t{i}" for i in range(15)], last_frame=2e6)
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (3, 5)
    assert figure.axes[3].get_xlim() == pytest.approx((-0.04, 2.04))
    assert figure.get_supxlabel() == "million frames"


def test_the_legend_counts_seeds_per_task():
    runs = [run([1], seed=1), run([1], seed=2), run([1], task="u"), run([1], SN)]
    assert {"mlp2 (1 to 2 seeds)", "modern4 + SN (1 seed)"} <= set(legend(drawn(runs, tasks=["t", "u"])))


def test_a_variant_looks_the_same_whoever_is_beside_it():
    def seen(variants):
        lines = solid(drawn([run([1], variant) for variant in variants]).axes[0])
        return [(line.get_color(), line._dash_pattern) for line in lines]

    together = seen(PAPER)
    assert together == [look for variant in PAPER for look in seen([variant])]
    assert len({color for color, _ in together}) == len({str(dashes) for _, dashes in together}) == 4


def test_every_known_label_and_some_unknown_ones_look_different():
    styles = looks([*NUMBERS, "new", "newer"])
    assert len({(style["color"], str(style["linestyle"])) for style in styles.values()}) == len(NUMBERS) + 2


def test_variants_of_two_agents_have_two_names():
    assert list(names([SN, Variant("drqv2", "modern4", "spectral")]).values()) == [
        "drq modern4 + SN",
        "drqv2 modern4 + SN",
    ]
    assert list(names(PAPER).values()) == ["mlp2", "mlp4", "modern4", "modern4 + SN"]


def test_figures_are_the_same_twice_and_tell_their_numbers():
    runs = [run([100, 300, 600]), run([200, 500, 640], seed=2), run([1, 2], SN, status="running")]
    first, again = (
        figures.curves("figure1", runs, ["t", "no$u"], PAPER, {"t": [ReleasedPoint(0, 4, 1, 10)]}, 20000) for _ in "ab"
    )
    assert first == again
    assert first.png.startswith(b"\x89PNG")
    assert ElementTree.fromstring(first.svg).tag.endswith("}svg")
    assert first.alt.splitlines()[1:] == [
        "t: mlp2 620 ± 20 (2 seeds), modern4 + SN 2 (1 seed, at 10 thousand frames), released 4 ± 1 sd (10 seeds, at 0 frames).",
        "no$u: no runs.",
    ]


@pytest.mark.parametrize("tasks", [[], ["t"]])
def test_without_runs_there_is_still_a_figure(tasks):
    assert figures.curves("a", [], tasks, PAPER, {}, 20000).png
    assert "no task" in figures.dynamics("b", [], PAPER).alt


def test_dynamics_keep_the_looks_and_the_names():
    nap = dataclasses.replace(run([9], end=10), variant=Variant("drq", "modern4", "nap"))
    made = figures.dynamics(
        "figure3", [run([3], SN, end=10), run([5], SN, 2, "crashed", end=10), nap], [*PAPER, nap.variant]
    )
    assert {"modern4 + SN (2 seeds, 1 crashed)", "modern4 + nap (1 seed)"} <= set(texts(made.svg))
    assert looks(["modern4 + SN"])["modern4 + SN"]["color"].lower() in made.svg.decode()
    assert "modern4 + SN 4 ± 1 (2 seeds, 1 crashed); largest critic gradient norm 2.5." in made.alt.splitlines()


def test_the_returns_of_dynamics_follow_the_rule_for_crashes_and_tell_where_seeds_are_missing():
    runs = [run([1000] * 4), run([400, 0], seed=2, status="crashed"), run([1000] * 3, seed=3, status="running")]
    axes = canvas(4, 4).subplots()
    dynamics_figure._draw_panel(
        axes, RETURN, {"mlp2": [member.run for member in runs]}, [looks(["mlp2"])["mlp2"]], True
    )
    whole, thin, cross = axes.lines
    assert curve_of(whole) == [[0, 800], [10, pytest.approx(2000 / 3)], [20, pytest.approx(2000 / 3)]]
    assert curve_of(thin) == [[20, pytest.approx(2000 / 3)], [30, 500]]
    assert cross.get_xydata().tolist() == [[10, 0]]
    made = figures.dynamics("figure3", runs, PAPER)
    assert "mlp2 500 ± 500 (2 of 3 seeds, 1 crashed); largest critic gradient norm 2.5." in made.alt.splitlines()
    assert "Returns, ± one standard error, are those at 30 thousand frames" in made.alt
    assert "thin: not every seed has a value there" in texts(made.svg)
    assert "last point of a run that crashed; its return is carried forward" in texts(made.svg)


def test_a_group_that_crashed_as_a_whole_goes_on_to_the_end_of_the_panel():
    groups = {"a": [run([9, 5], status="crashed").run], "b": [run([1, 2, 3, 4]).run]}
    axes = canvas(4, 4).subplots()
    dynamics_figure._draw_panel(axes, RETURN, groups, list(looks(["a", "b"]).values()), True)
    assert curve_of(axes.lines[0]) == [[0, 9], [10, 5], [30, 5]]


@pytest.fixture
def found():
    iqm = {"mlp2": Interval(0.5, 0.4, 0.7), "modern4 + SN": Interval(0.75, 0.7, 0.8)}
    improvement = {("modern4 + SN", "mlp2"): Interval(0.9, 0.8, 1.0)}
    profiles = {"mlp2": np.array([[1, 0.5], [0.9, 0.25], [1, 0.75]]), "modern4 + SN": np.ones((3, 2))}
    return Aggregates(
        "drq", 5e5, ("t", "u"), {"mlp2": 3, "modern4 + SN": 1}, iqm, improvement, np.array([0.0, 1.0]), profiles
    )


def test_aggregates_are_drawn_with_their_intervals(found):
    figure = aggregate_figure.draw(found)
    means, improvements, profiles = figure.axes
    bars, dots = means.lines[::2], means.lines[1::2]
    assert [list(line.get_xdata()) for line in bars] == [[0.4, 0.7], [0.7, 0.8]]
    assert [list(line.get_xdata()) for line in dots] == [[0.5], [0.75]]
    assert [line.get_color() for line in dots] == [look["color"] for look in looks(["mlp2", "modern4 + SN"]).values()]
    assert [text.get_text() for text in means.get_yticklabels()] == ["mlp2", "modern4 + SN"]
    assert [text.get_text() for text in improvements.texts] == ["0.90 [0.80, 1.00]"]
    assert [text.get_text() for text in improvements.get_yticklabels()] == ["modern4 + SN > mlp2"]
    assert profiles.lines[0].get_xydata().tolist() == [[0, 1], [1, 0.5]]
    assert profiles.collections[0].get_paths()[0].vertices[:, 1].min() == 0.25
    assert legend(figure) == ["mlp2 (3 seeds per task)", "modern4 + SN (1 seed per task)"]


def test_many_pairs_stand_below(found):
    pairs = {("mlp2", f"x{i}"): Interval(0.5, 0.4, 0.6) for i in range(9)}
    means, improvements, profiles = aggregate_figure.draw(dataclasses.replace(found, improvement=pairs)).axes
    assert len(improvements.get_yticklabels()) == 9
    assert [axes.get_subplotspec().colspan.stop for axes in (means, improvements, profiles)] == [1, 2, 2]
    assert profiles.get_subplotspec().rowspan.stop == 1


def test_aggregates_in_words(found):
    made = figures.aggregates("aggregates", found)
    assert made == figures.aggregates("aggregates", found)
    assert made.alt.splitlines()[1] == "Interquartile mean of mlp2: 0.50, 95 % confidence interval 0.40 to 0.70."
    assert made.alt.splitlines()[3].startswith("Probability that modern4 + SN scores higher than mlp2: 0.90")
    assert "2 tasks at 500 thousand frames" in made.alt


def test_aggregates_of_nothing_say_so(found):
    empty = dataclasses.replace(found, num_seeds={}, iqm={}, improvement={}, profiles={})
    assert texts(figures.aggregates("a", empty).svg).count("nothing to compare") == 3


@pytest.mark.parametrize(
    ("frame", "words"), [(0, "0 frames"), (16000, "16 thousand frames"), (1.5e6, "1.5 million frames")]
)
def test_frames_in_words(frame, words):
    assert in_frames(frame) == words
