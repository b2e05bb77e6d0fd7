"""Tables and curves of the experiments on MinAtar."""

from __future__ import annotations

import pytest

from drq_sn.cli.report import load_comparisons
from drq_sn.report.comparisons import comparison_section
from drq_sn.report.types import Departure, Experiment, Variant
from drq_sn.report.variants import name_variants
from tests.builders import make_run, svg_texts

PLAIN, SN = Variant("dqn", "none", "none"), Variant("dqn", "none", "spectral")
GAMES = ("minatar_breakout", "minatar_asterix")
LABELS = {"_a": "none lr1e-3", "_b": "sn-2 lr1e-3", "_c": "sn-2 lr2e-3"}
SUFFIXES = tuple({"run_suffix": suffix} for suffix in LABELS)
LR = Experiment("gogianu_lr", "dqn", GAMES, SUFFIXES, (1, 2), 500, tuple(LABELS.values()))


def q_run(suffix, score, seed=1, task="minatar_breakout", variant=SN, **more):
    evaluations = {0: 0.5, 500: score}
    return make_run(evaluations, task=task, variant=variant, seed=seed, options={"run_suffix": suffix}, **more)


RUNS = [
    q_run("_a", 2.52, variant=PLAIN),
    q_run("_a", 4.52, seed=2, variant=PLAIN),
    q_run("_b", 10.52),
    q_run("_c", 5.52),
    q_run("_a", 1.5, task="minatar_asterix", variant=PLAIN),
    q_run("_elsewhere", 99.0),
    q_run("_b", 99.0, task="minatar_seaquest"),
]


def test_the_table_has_every_variant_with_its_seeds_and_normalized_score():
    (table,) = comparison_section(LR, RUNS).tables
    assert table.columns == ["variant", "minatar_breakout", "minatar_asterix", "normalized"]
    # breakout: (mean - 0.52) / (10.52 - 0.52); asterix: the only run is the best one; others have no run there
    assert table.rows[0] == ["none lr1e-3", "3.52 ± 1.00 (1.41, 2)", "1.50 (1 seed)", "0.65"]
    assert table.rows[1][::3] == ["sn-2 lr1e-3", "\N{EN DASH}"]
    assert table.rows[2][::3] == ["sn-2 lr2e-3", "\N{EN DASH}"]
    assert "our definition" in " ".join(table.notes)
    record = table.records[0]
    assert (record["n"], record["mean"], record["normalized"]) == (2, pytest.approx(3.52), pytest.approx(0.3))


def test_the_table_is_at_the_frame_that_is_asked_for():
    (table,) = comparison_section(LR, RUNS, frame=0).tables
    assert {record["frame"] for record in table.records} == {0}
    assert table.rows[0][1] == "0.50 ± 0.00 (0.00, 2)"


def test_figures_are_over_frames_and_over_learning_rates():
    curves, rates = comparison_section(LR, RUNS).figures
    assert (curves.name, rates.name) == ("gogianu_lr", "gogianu_lr_by_lr")
    texts = " ".join(svg_texts(curves.svg))
    assert all(text in texts for text in ("none lr1e-3", "sn-2 lr1e-3", "minatar_breakout", "minatar_asterix"))
    assert {"learning rate", "0.001", "0.002"} <= set(svg_texts(rates.svg))


def test_games_without_runs_have_no_panel():
    (_, rates) = comparison_section(LR, RUNS[2:4]).figures
    texts = set(svg_texts(rates.svg))
    assert "minatar_breakout" in texts
    assert not {"minatar_asterix", "no data"} & texts


def test_runs_of_different_settings_are_named():
    assert comparison_section(LR, RUNS).warnings == []
    other = q_run("_a", 3.0, seed=3, variant=PLAIN, departures=[Departure("batch_size", 8, 32)])
    for runs in ([*RUNS, other], [other, *RUNS]):
        section = comparison_section(LR, name_variants(runs))
        (warning,) = section.warnings
        assert warning.startswith("gogianu_lr: none lr1e-3 has runs of different settings; those at other settings")
        assert section.tables[0].records[0]["n"] == 2  # the published ones
        assert "none lr1e-3 (1 to 2 seeds)" in svg_texts(section.figures[0].svg)


def test_runs_without_a_score_are_named():
    unfinished = make_run({0: 0.5}, "minatar_breakout", SN, 2, "interrupted", options={"run_suffix": "_b"})
    (warning,) = comparison_section(LR, [*RUNS, unfinished]).warnings
    assert warning == "gogianu_lr: left out, evaluated up to frame 0: minatar_breakout DQN sn-2 lr1e-3 seed 2"


def test_there_is_no_section_without_runs():
    assert comparison_section(LR, [q_run("_elsewhere", 1.0)]) is None


def test_every_experiment_has_both_scales():
    comparisons = {comparison.name: comparison for comparison in load_comparisons()}
    assert len(comparisons) == 8
    assert comparisons["gogianu_lr_laptop"].labels[-1] == "24x3 sn-2 lr2.15e-3"
    assert comparisons["gogianu_depth_laptop"].num_train_frames == 1_000_000
    assert len(comparisons["gogianu_depth"].variants) == 60
