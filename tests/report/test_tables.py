"""Tables 1 and 2 in the paper's layout, with numbers by hand."""

from __future__ import annotations

import pytest

from drq_sn.cli.report import load_experiments
from drq_sn.report.scores import all_cells, experiment_cells
from drq_sn.report.tables import CSV_FIELDS, all_runs_table, score_table
from drq_sn.report.types import Variant
from tests.builders import DASH, MLP2, MODERN_SN, make_run

V2 = Variant("drqv2", "modern4", "none")
TABLE1, TABLE2 = (load_experiments()[name] for name in ("table1", "table2"))


def table_of(experiment, runs, frame=None):
    return score_table(experiment, experiment_cells(experiment, runs, frame))


def row_of(table, task):
    (row,) = [row for row in table.rows if row[0] == task]
    return dict(zip(table.columns, row, strict=True))


def csv_row(table, task, variant):
    (row,) = [row for row in table.records if (row["task"], row["variant"]) == (task, variant)]
    return row


def test_without_runs_the_papers_numbers_stand_there():
    table = table_of(TABLE1, [])
    assert table.columns == ["task", "mlp2", "mlp2, paper", "modern4", "modern4, paper", "modern4 + SN",
                                         "modern4 + SN, paper", "DrQ-v2's released curve"]  # fmt: skip
    assert [row[0] for row in table.rows] == list(TABLE1.tasks)
    row = row_of(table, "cup_catch")
    assert (row["mlp2"], row["mlp2, paper"], row["modern4 + SN, paper"]) == (DASH, "966.67 ± 2.32", "975.32 ± 1.30")
    assert row["DrQ-v2's released curve"] == "843.8 (186.3, 8)"
    assert table.notes[0] == "No runs yet."
    sparse = 'The paper prints "cartpole sparse", read here as cartpole_balance_sparse.'
    assert sparse in table.notes
    assert sparse not in table_of(TABLE2, []).notes


def test_table_1_with_seeds_one_of_which_diverged():
    runs = [make_run({0: 1.0, 100_000: v}, "ball_in_cup_catch", V2, seed) for seed, v in ((1, 100.0), (2, 104.0))]
    runs.append(make_run({0: 96.0}, "ball_in_cup_catch", V2, 3, status="diverged", record={"frame": 4321}))
    table = table_of(TABLE1, runs)
    row = row_of(table, "cup_catch")
    assert row["modern4"] == "100.0 ± 2.3 (4.0, 3) †1"  # sd sqrt((0 + 16 + 16) / 2), over sqrt(3)
    assert row["modern4, paper"] == "107.46 ± 21.43"
    assert any(
        "† training diverged" in note and "modern4 on cup_catch seed 3 at frame 4 321" in note for note in table.notes
    )
    assert any("Ours are at 100 000 frames, the paper's at 500 000" in note for note in table.notes)
    numbers = csv_row(table, "cup_catch", "modern4")
    assert numbers == {
        "task": "cup_catch",
        "variant": "modern4",
        "mean": 100.0,
        "se": pytest.approx(4 / 3**0.5),
        "sd": 4.0,
        "n": 3,
        "num_diverged": 1,
        "frame": 100_000,
        "paper_mean": 107.46,
        "paper_spread": 21.43,
    }


def test_table_2_has_dreamer_and_the_released_curve_at_the_same_frame():
    table = table_of(TABLE2, [make_run({0: 1.0, 200_000: 2.0}, "walker_run", MODERN_SN, 4)])
    row = row_of(table, "walker_run")
    assert row["modern4 + SN"] == "2.0 (1 seed)"
    assert row["modern4 + SN, paper"] == "501.0 ± 57.0"
    assert row["Dreamer, paper"] == "466.2 ± 21.1"
    assert csv_row(table, "walker_run", "Dreamer")["paper_mean"] == 466.2
    (released,) = [row for row in table.records if row["task"] == "walker_run" and row.get("released_mean")]
    assert released["variant"] == "mlp2"  # what its authors trained
    shown = "{released_mean:.1f} ({released_sd:.1f}, {released_n})".format(**released)
    assert row["DrQ's released curve"] == shown
    assert set(released) <= set(CSV_FIELDS)
    at_the_end = table_of(TABLE2, [])
    assert row_of(at_the_end, "walker_run")["DrQ's released curve"] != row["DrQ's released curve"]


def test_between_the_released_frames_there_is_a_dash():
    row = row_of(table_of(TABLE2, [make_run({150_000: 2.0}, "walker_run")]), "walker_run")
    assert row["mlp2"] == "2.0 (1 seed)"
    assert row["DrQ's released curve"] == DASH


def test_a_table_ends_where_the_paper_does_unless_told_otherwise():
    runs = [make_run({400_000: 1.0, 500_000: 2.0, 600_000: 3.0})]
    assert table_of(TABLE2, runs).rows[2][1] == "2.0 (1 seed)"
    assert table_of(TABLE2, runs, frame=400_000).rows[2][1] == "1.0 (1 seed)"


def test_the_best_values_at_equal_frames_are_marked_and_latex_has_shorter_cells():
    scores = ((MLP2, 1, 1.0), (MLP2, 2, 3.0), (MODERN_SN, 1, 7.0), (MODERN_SN, 2, 9.0))
    runs = [make_run({100_000: value}, "walker_run", variant, seed) for variant, seed, value in scores]
    table = table_of(TABLE2, runs)
    row = [line[0] for line in table.rows].index("walker_run")
    assert table.best == {(row, 3)}
    assert table.latex[row][1:4:2] == ["2.0 ± 1.0", "8.0 ± 1.0"]
    assert "at 100 000 frames" in table.caption


def test_all_runs_whatever_they_are():
    runs = [make_run({0: 1.0, 10: 3.0}, "dog_run", V2), make_run({10: 5.0}, "dog_run", V2, 2)]
    runs += [make_run({0: 1.0, 20: 9.0}, task, MODERN_SN) for task in ("dog_run", "dog_walk")]
    table = all_runs_table(runs, all_cells(runs))
    assert table.columns == ["task", "DrQ modern4 + SN", "DrQ-v2 modern4"]
    one = "9.0 (1 seed)"
    assert table.rows == [["dog_run", one, "4.0 ± 1.0 (1.4, 2) @ 10"], ["dog_walk", one, DASH]]
    assert table.best == frozenset()  # no two values at one frame
    row = next(row for row in table.records if row["variant"] == "modern4")
    assert (row["mean"], row["se"], row["n"], row["settings"]) == (4.0, pytest.approx(1.0), 2, "published setting")


def test_more_variants_than_tasks_are_rows():
    runs = [make_run({10: v}, "dog_run", variant) for v, variant in ((1.0, MLP2), (2.0, V2))]
    table = all_runs_table(runs, all_cells(runs))
    assert (table.columns, [row[0] for row in table.rows]) == (["variant", "dog_run"], ["DrQ mlp2", "DrQ-v2 modern4"])
    assert table.best == {(1, 1)}
