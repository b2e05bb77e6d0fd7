"""Seed averages by hand, and panels read back from matplotlib's axes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drq_sn.report.curves import (
    BAND,
    BELOW_AXIS,
    CARRIED,
    DIVERGED,
    NOT_FINITE,
    RELEASED_CURVE,
    THIN_LINE,
    Panel,
    average,
    draw,
)
from drq_sn.report.published import ReleasedPoint
from drq_sn.report.types import Series

MARGIN = (-25, 1025)


def series(*values, **more):
    """Values at 0, 10 000, 20 000, ... frames."""
    return Series({10000.0 * i: float(value) for i, value in enumerate(values)}, **more)


def diverged(*values, at):
    return series(*values, diverged_at=at, carried=True)


def drawn(*panels, last=20000):
    return draw(panels, last, "y")


def returns(*seeds, **options):
    return Panel("t", {"mlp2": seeds}, is_return=True, **options)


def points(line):
    """Points of a line that are drawn."""
    xy = np.asarray(line.get_xydata())
    return xy[~np.isnan(xy[:, 1])].tolist()


def lines(axes):
    """Points of whole, thin and cross lines."""
    kinds = {3: "whole", 2.5: "thin", 5: "cross"}
    return {kind: points(line) for line in axes.lines for z, kind in kinds.items() if line.get_zorder() == z}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_mean_and_standard_error():
    curve = average([series(1, 2), series(3, 8, 5), series(5)])
    assert curve.frames.tolist() == [0, 10000, 20000]
    np.testing.assert_allclose(curve.mean, [3, 5, 5])
    np.testing.assert_allclose(curve.high - curve.mean, [2 / math.sqrt(3), 3, np.nan])  # sd of (1, 3, 5) is 2
    np.testing.assert_allclose(curve.mean - curve.low, [2 / math.sqrt(3), 3, np.nan])
    assert curve.num_seeds.tolist() == [3, 2, 1]
    assert average([series()]).mean.shape == (0,)
    assert np.isnan(average([series(1), series(math.inf)]).mean).all()
    assert drawn(Panel("t", {"x": [series(1), series(math.inf)], "y": [series(2)]})).axes


def test_geometric_mean_and_its_band():
    curve = average([series(1), series(100)], log=True)
    np.testing.assert_allclose([curve.mean, curve.low, curve.high], [[10], [1], [100]])  # the error is 1 decade


def test_a_diverged_run_is_carried_forward_to_all_later_frames_and_the_end():
    curve = average([diverged(1, 7, at=14000), series(3, 3, 3)], last=30000)
    assert curve.frames.tolist() == [0, 10000, 20000, 30000]
    assert curve.mean.tolist() == [2, 5, 5, 7]
    assert curve.num_seeds.tolist() == [2, 2, 2, 1]
    other = Series({0.0: 1.0}, diverged_at=5.0)  # a quantity that is not carried forward
    assert average([other, series(3, 3)], last=10000).num_seeds.tolist() == [2, 1]


def test_a_diverged_run_without_values_adds_no_frame():
    assert average([diverged(at=0), series(3)], last=30000).frames.tolist() == [0]


def test_a_panel_of_whole_curves_has_no_thin_line():
    figure = drawn(returns(series(100, 300, 600), series(200, 500, 600)))
    assert lines(figure.axes[0]) == {"whole": [[0, 150], [10000, 400], [20000, 600]]}
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert {(x, y) for x, y in band.tolist() if x == 10000} == {(10000, 300), (10000, 500)}
    assert legend(figure) == ["mlp2 (2 seeds)", BAND]


def test_a_diverged_run_has_a_cross_and_is_counted():
    figure = drawn(returns(diverged(100, 300, at=14000), series(200, 500, 700)))
    assert lines(figure.axes[0]) == {"whole": [[0, 150], [10000, 400], [20000, 500]], "cross": [[14000, 300]]}
    assert {"mlp2 (2 seeds, 1 diverged)", CARRIED} <= set(legend(figure))
    not_carried = [each._replace(carried=False) for each in (diverged(100, 300, at=14000), series(200))]
    assert DIVERGED in legend(drawn(returns(*not_carried)))
    early = drawn(returns(diverged(100, 300, at=14000)), last=10000)
    assert "cross" not in lines(early.axes[0])


def test_a_curve_is_thin_where_seeds_are_missing():
    figure = drawn(returns(series(100, 300, 600), series(200, 500)))
    assert lines(figure.axes[0]) == {"whole": [[0, 150], [10000, 400]], "thin": [[10000, 400], [20000, 600]]}
    assert THIN_LINE in legend(figure)
    inside = drawn(returns(series(100, 300, 600), Series({0.0: 100.0, 20000.0: 200.0})))
    assert lines(inside.axes[0])["thin"] == [[0, 100], [10000, 300], [20000, 400]]
    assert np.isnan(inside.axes[0].lines[0].get_ydata()[1])  # no line across


def test_gaps_break_the_line_and_are_marked_below():
    figure = drawn(Panel("loss", {"mlp2": [Series({0.0: 1.0, 20000.0: 1.0}, frozenset({10000.0}))]}, log=True))
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert np.isnan(axes.lines[0].get_ydata()[1])
    assert [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "v"] == [[10000]]
    assert BELOW_AXIS in legend(figure)
    assert NOT_FINITE not in legend(figure)


def test_marks_have_rows_of_their_own_that_curves_do_not_reach():
    zero, infinite = ({kind: frozenset({10000.0})} for kind in ("below", "missing"))
    groups = {
        "a": [Series({0.0: 1.0, 20000.0: 1000.0})],
        "b": [Series({0.0: 10.0}, **zero)],
        "c": [Series({0.0: 10.0}, **zero, **infinite)],
    }
    figure = drawn(Panel("loss", groups, log=True))
    (axes,) = figure.axes
    rows = {mark: [line.get_ydata()[0] for line in axes.lines if line.get_marker() == mark] for mark in "v^"}
    assert rows == {"v": pytest.approx([0.025, 0.05]), "^": pytest.approx([0.975])}
    to_panel = axes.transScale + axes.transLimits
    assert to_panel.transform((0, 1.0))[1] > 0.075
    assert to_panel.transform((0, 1000.0))[1] < 0.95
    assert {BELOW_AXIS, NOT_FINITE} <= set(legend(figure))


def test_panels_share_the_scale_of_returns_where_they_can():
    figure = drawn(*(returns(series(0, top)) for top in (900, 1000, 1001, -1)))
    assert [axes.get_ylim() == MARGIN for axes in figure.axes[:4]] == [True, True, False, False]


def test_released_points_are_drawn_up_to_the_last_frame():
    released = [ReleasedPoint(0, 40, 10, 10), ReleasedPoint(20000, 400, 30, 10), ReleasedPoint(40000, 900, 30, 10)]
    figure = drawn(returns(series(100, 300), released=released), Panel("u", {}))
    (bars,) = figure.axes[0].containers
    assert bars.lines[0].get_xydata().tolist() == [[0, 40], [20000, 400]]
    assert [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()] == [[30, 50], [370, 430]]
    assert figure.axes[1].texts[0].get_text() == "no data"
    assert RELEASED_CURVE in legend(figure)


def test_fifteen_panels_are_in_three_rows():
    figure = drawn(*[returns(series(1))] * 15, last=2e6)
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (3, 5)
    assert figure.axes[3].get_xlim() == pytest.approx((-0.04e6, 2.04e6))
    labeled = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes]
    assert labeled == [False] * 10 + [True] * 5


def test_seeds_are_counted_per_panel():
    assert legend(drawn(returns(series(1), series(2)), returns(series(1))))[0] == "mlp2 (1 to 2 seeds)"


def test_a_missing_value_of_a_seed_is_no_mean_and_one_value_has_a_log_axis():
    assert np.isnan(average([series(1), series(2), series(math.nan)], log=True).mean[0])
    assert drawn(Panel("loss", {"mlp2": [series(1e-16)]}, log=True)).axes[0].get_ylim()[1] == pytest.approx(1e-15)
