"""Aggregates against numbers counted by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from drq_sn.report.aggregates import (
    THRESHOLDS,
    Aggregates,
    aggregate,
    aggregates_figure,
    aggregates_rows,
    aggregates_table,
    collect_scores,
    draw,
    probability_of_improvement,
    share_above,
)
from drq_sn.report.build import Choices, aggregates_section
from drq_sn.report.style import line_styles
from drq_sn.report.types import Interval, Variant
from tests.builders import DASH, MLP2, MODERN_SN, make_run

LIMIT = 500_000


def runs_of(scores, variant):
    """Task -> scores by seed."""
    return [
        make_run({0: 0.0, 10: value}, task=task, variant=variant, seed=seed)
        for task, values in scores.items()
        for seed, value in enumerate(values, start=1)
    ]


def aggregated(*runs, reps=50, seed=1):
    made, _ = aggregate("drq", [run for group in runs for run in group], LIMIT, None, reps, seed)
    return made


def test_runs_are_compared_at_the_last_frame_within_the_limit_or_at_a_given_one():
    run = make_run({5: 2.0, 10: 1.0, LIMIT + 10: 9.0})
    for frame, score in ((None, 1.0), (5, 2.0)):
        made, _ = aggregate("drq", [run], LIMIT, frame, 10, 1)
        assert (made.frame, made.iqm["mlp2"].value) == (frame or 10, score / 1000)


@pytest.mark.parametrize(
    ("scores", "iqm"),
    [
        ({"a": [100, 900], "b": [400, 200]}, (0.2 + 0.4) / 2),  # the middle two of four
        ({"a": [0, 1000, 300, 500], "b": [100, 600, 700, 0]}, (0.1 + 0.3 + 0.5 + 0.6) / 4),  # the middle four of eight
    ],
)
def test_interquartile_mean_by_hand(scores, iqm):
    made = aggregated(runs_of(scores, MLP2))
    assert made.iqm["mlp2"].value == pytest.approx(iqm)
    assert made.iqm["mlp2"].low <= iqm <= made.iqm["mlp2"].high
    assert (made.frame, made.tasks, made.improvement) == (10, ("a", "b"), {})


def test_probability_of_improvement_by_counting_pairs():
    x, y = {"a": [3, 1], "b": [5, 5]}, {"a": [2, 2, 0], "b": [5, 7, 1]}
    made = aggregated(runs_of(y, MLP2), runs_of(x, MODERN_SN))
    wins = [[(i > j) + (i == j) / 2 for i in x[task] for j in y[task]] for task in ("a", "b")]
    by_hand = sum(sum(won) / 6 for won in wins) / 2
    assert by_hand == pytest.approx(((3 + 1) / 6 + (1 + 2) / 6) / 2)
    assert list(made.improvement) == [("modern4 + SN", "mlp2")]
    assert made.improvement["modern4 + SN", "mlp2"].value == pytest.approx(by_hand)


def test_it_is_what_rliable_calls_so():
    from rliable import metrics

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (6, 4)).astype(float), rng.integers(0, 5, (3, 4)).astype(float)
    assert probability_of_improvement(x, y)[0] == pytest.approx(metrics.probability_of_improvement(x, y))
    assert probability_of_improvement(x, x)[0] == 0.5


def test_profile_by_brute_force():
    scores = {"a": [100, 900], "b": [400, 200]}
    made = aggregated(runs_of(scores, MLP2))
    value, low, high = made.profiles["mlp2"]
    flat = [score / 1000 for values in scores.values() for score in values]
    assert value.tolist() == [sum(score > t for score in flat) / 4 for t in THRESHOLDS]
    assert (low <= value).all()
    assert (value <= high).all()
    assert share_above(np.array([[0.5]]), np.array([0.4, 0.5])).tolist() == [1.0, 0.0]


def test_intervals_narrow_with_agreement_and_follow_the_seed_alone():
    spread = {"a": [100, 900, 300], "b": [400, 200, 700]}
    first, again = (aggregated(runs_of(spread, MLP2), reps=100) for _ in range(2))
    other = aggregated(runs_of(spread, MLP2), reps=100, seed=2)
    assert first.iqm == again.iqm
    assert np.array_equal(first.profiles["mlp2"], again.profiles["mlp2"])
    assert first.iqm != other.iqm
    assert first.iqm["mlp2"].low < first.iqm["mlp2"].value < first.iqm["mlp2"].high
    agreeing = aggregated(runs_of({"a": [500, 500], "b": [500, 500]}, MLP2)).iqm["mlp2"]
    assert agreeing == Interval(0.5, 0.5, 0.5)


def test_the_bootstrap_leaves_numpys_generator_as_it_was():
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    aggregated(runs_of({"a": [1, 2]}, MLP2))
    assert np.random.random() == expected


def test_what_does_not_make_a_rectangle_is_left_out_and_named():
    runs = runs_of({"a": [1, 2, 3], "b": [4, 5], "c": [6]}, MLP2) + runs_of({"a": [7], "b": [8]}, MODERN_SN)
    scores, tasks, notes = collect_scores(runs, 10)
    assert tasks == ("a", "b")
    assert {label: matrix.tolist() for label, matrix in scores.items()} == {
        "mlp2": [[0.001, 0.004], [0.002, 0.005]],
        "modern4 + SN": [[0.007, 0.008]],
    }
    assert notes == [
        "tasks left out, where a variant has fewer than half its usual seeds at frame 10: c",
        "mlp2: 2 of up to 3 seeds are used, as many as every task has",
        "modern4 + SN: one seed per task says nothing about other seeds; ignore its intervals",
    ]


def test_a_variant_that_has_not_got_there_takes_no_other_with_it():
    behind = [make_run({0: 1.0}, task="a", variant=MODERN_SN)]
    scores, tasks, notes = collect_scores(runs_of({"a": [1, 2]}, MLP2) + behind, 10)
    assert (list(scores), tasks) == (["mlp2"], ("a",))
    assert notes == ["variants left out, on fewer than half as many tasks as the one on most at frame 10: modern4 + SN"]


FIVE = {task: [1, 2, 3, 4, 5] for task in "abcde"}


def test_a_stray_variant_takes_no_task_with_it():
    stray = runs_of({"a": [9]}, Variant("drq", "simba", "none"))
    scores, tasks, notes = collect_scores(runs_of(FIVE, MLP2) + runs_of(FIVE, MODERN_SN) + stray, 10)
    assert {label: matrix.shape for label, matrix in scores.items()} == {"mlp2": (5, 5), "modern4 + SN": (5, 5)}
    assert tasks == tuple("abcde")
    assert notes == ["variants left out, on fewer than half as many tasks as the one on most at frame 10: simba"]


def test_a_task_with_one_seed_takes_no_seeds_with_it():
    one_more = FIVE | {"f": [9]}
    scores, tasks, notes = collect_scores(runs_of(one_more, MLP2) + runs_of(one_more, MODERN_SN), 10)
    assert {label: matrix.shape for label, matrix in scores.items()} == {"mlp2": (5, 5), "modern4 + SN": (5, 5)}
    assert tasks == tuple("abcde")
    assert notes == ["tasks left out, where a variant has fewer than half its usual seeds at frame 10: f"]


def test_half_of_the_tasks_and_of_the_seeds_is_enough():
    half = {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3]}
    scores, tasks, _ = collect_scores(
        runs_of({task: FIVE[task] for task in "abcd"}, MLP2) + runs_of(half, MODERN_SN), 10
    )
    assert (tasks, {label: len(matrix) for label, matrix in scores.items()}) == (
        ("a", "b"),
        {"mlp2": 5, "modern4 + SN": 3},
    )


def test_seeds_are_resampled_within_each_task():
    same = aggregated(runs_of({"a": [0, 0], "b": [1000, 1000]}, MLP2), reps=500).iqm["mlp2"]
    assert same == Interval(0.5, 0.5, 0.5)  # drawn from both tasks together, it would differ from resample to resample
    crossed = aggregated(runs_of({"a": [0, 1000], "b": [1000, 0]}, MLP2), reps=500).iqm["mlp2"]
    assert crossed == Interval(
        0.5, 0.0, 1.0
    )  # one resample in 16 is of zeros alone; whole seeds, 0 and 1, give 0.5 always


def test_nothing_in_common_is_said():
    made, notes = aggregate("drq", runs_of({"a": [1]}, MLP2) + runs_of({"b": [1]}, MODERN_SN), LIMIT, None, 10, 1)
    assert made is None
    assert notes[-1] == "no task has scores of every variant"
    assert aggregate("drq", [make_run()], LIMIT, None, 10, 1)[0] is None


def test_the_table():
    made = aggregated(runs_of({"a": [100, 300]}, MLP2), runs_of({"a": [500, 500]}, MODERN_SN))
    table = aggregates_table([("preset=laptop", made)])
    where = ("DrQ", "preset=laptop", "10")
    assert table.rows[1] == (*where, "interquartile mean", "modern4 + SN", "2", "0.500", "0.500 to 0.500")
    assert table.rows[2] == (*where, "probability", "modern4 + SN above mlp2", DASH, "1.000", "1.000 to 1.000")
    assert table.notes == ["DrQ, preset=laptop: 1 task: a."]
    assert table.records == aggregates_rows(made, "preset=laptop")


def test_rows_of_csv():
    made = aggregated(runs_of({"a": [100, 300]}, MLP2), runs_of({"a": [200, 400]}, MODERN_SN))
    rows = aggregates_rows(made, "published setting")
    assert [row["statistic"] for row in rows[:3]] == ["iqm", "iqm", "probability_of_improvement"]
    assert len(rows) == 3 + 2 * 101
    assert (rows[2]["variant"], rows[2]["than"], rows[2]["value"]) == ("modern4 + SN", "mlp2", 0.75)
    assert [row["value"] for row in rows if row["statistic"] == "profile" and row["threshold"] == 0.1] == [0.5, 1.0]


@pytest.fixture
def result():
    iqm = {"mlp2": Interval(0.5, 0.4, 0.7), "modern4 + SN": Interval(0.75, 0.7, 0.8)}
    improvement = {("modern4 + SN", "mlp2"): Interval(0.9, 0.8, 1.0)}
    profiles = {label: np.tile([[0.5], [0.25], [0.75]], len(THRESHOLDS)) for label in iqm}
    return Aggregates("drq", 5e5, ("t", "u"), {"mlp2": 3, "modern4 + SN": 1}, iqm, improvement, profiles)


def test_estimates_are_drawn_with_their_intervals(result):
    figure = draw(result)
    means, profiles, improvements = figure.axes
    bars = [container.lines[2][0].get_segments()[0][:, 0] for container in means.containers]
    np.testing.assert_allclose(bars, [[0.4, 0.7], [0.7, 0.8]])
    dots = [container.lines[0] for container in means.containers]
    assert [list(line.get_xdata()) for line in dots] == [[0.5], [0.75]]
    assert [line.get_color() for line in dots] == [style["color"] for style in line_styles(list(result.iqm)).values()]
    assert [text.get_text() for text in improvements.get_yticklabels()] == ["modern4 + SN > mlp2"]
    assert profiles.collections[0].get_paths()[0].vertices[:, 1].min() == 0.25
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["mlp2 (3 seeds per task)", "modern4 + SN (1 seed per task)"]
    alt = aggregates_figure(result, "preset=laptop", "aggregates").alt
    assert "(DrQ, preset=laptop, 2 tasks at frame 500 000)" in alt


def test_games_are_never_aggregated_with_the_control_suite():
    dqn = Variant("dqn", "none", "none")
    runs = [make_run({0: 1.0, 100: 5.0}, task=f"minatar_{game}", variant=dqn) for game in ("breakout", "asterix")]
    section = aggregates_section([*runs, make_run({0: 1.0, 100: 500.0})], 100, Choices(num_bootstrap=20))
    assert {row[0] for table in section.tables for row in table.rows} == {"DrQ"}
    assert [figure.name for figure in section.figures] == ["aggregates_drq"]
