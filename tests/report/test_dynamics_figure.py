"""The files of a diagnosis: figures that can be opened, and numbers in long form."""

from __future__ import annotations

import csv
import re

import matplotlib.pyplot as plt
import pytest

from drq_sn.report.dynamics_figure import COLOURS, LINES, files, format_table, style
from tests.report.test_curves import log_of, run_of


def seed(number, status="finished"):
    train = log_of(frame=[1000, 2000, 3000], **{"grad_norm/actor": ["", 0, 3], "grad_norm/critic": ["", 1, 2]})
    evaluations = log_of(frame=[0, 3000], episode_return_mean=[number, 10 * number])
    return run_of(f"r/t/a/seed_{number}", seed=number, status=status, train=train, eval=evaluations)


def texts(svg):
    """What matplotlib wrote as text; it leaves each as a comment above its outlines."""
    return re.findall(r"<!-- (.*?) -->", svg.decode())


@pytest.fixture
def groups():
    measured = run_of("r/m$y", diagnostics=log_of(frame=[0, 10], critic_loss=[1, 2], overestimation=[-1, 2]))
    return {"t a": [seed(1), seed(2, "crashed")], "m$y": [measured]}


def test_all_files_are_made_and_the_same_twice(groups):
    made = files(groups)
    assert list(made) == ["diagnosis.csv", "figure3.png", "figure3.svg", "instruments.png", "instruments.svg"]
    assert made["figure3.png"].startswith(b"\x89PNG")
    assert made == files(groups)
    assert plt.get_fignums() == []


def test_the_csv_holds_what_is_drawn(groups):
    rows = list(csv.DictReader(files(groups)["diagnosis.csv"].decode().splitlines()))
    assert list(rows[0]) == ["group", "seed", "frame", "quantity", "value"]
    actor = [(row["seed"], row["frame"], float(row["value"])) for row in rows if row["quantity"] == "grad_norm/actor"]
    assert actor == [("1", "3000", pytest.approx(3)), ("2", "3000", pytest.approx(3))]
    assert {row["quantity"] for row in rows if row["group"] == "m$y"} == {"critic_loss", "overestimation"}


def test_panels_without_data_say_so_or_are_left_away(groups):
    del groups["m$y"]
    figure3 = texts(files(groups)["figure3.svg"])
    assert figure3.count("no data") == 1
    assert "critic loss on the replay" in figure3
    assert texts(files(groups)["instruments.svg"]).count("no data in diagnostics.csv") == 1


def test_only_instruments_with_data_are_drawn(groups):
    found = texts(files(groups)["instruments.svg"])
    assert "overestimation" in found
    assert "smoothness" not in found


def test_the_legend_counts_seeds_and_crashes(groups):
    found = texts(files(groups)["figure3.svg"])
    assert {"t a (2 seeds, 1 crashed)", "m$y (1 seed)", "last point of a run that crashed"} <= set(found)


def test_the_table_tells_what_was_left_out(groups):
    header, first, second, note = format_table(groups).splitlines()
    assert header.split("  ")[-1] == "actor rank"
    assert re.split(r"\s{2,}", first) == ["t a", "2", "1 finished, 1 diverged", "3000", "15 ± 5", "3", "2", "-", "-"]
    assert re.split(r"\s{2,}", second)[:4] == ["m$y", "1", "1 finished", "10"]
    assert note == "t a: 2 values of grad_norm/actor left out, zero or negative on a log axis"


def test_an_empty_run_is_drawn():
    made = files({"a": [run_of()]})
    assert texts(made["figure3.svg"]).count("no data") == 4
    assert made["diagnosis.csv"] == b"group,seed,frame,quantity,value\n"
    assert format_table({"a": [run_of()]}).splitlines()[1].split() == [
        "a",
        "1",
        "1",
        "finished",
        "0",
        "-",
        "-",
        "-",
        "-",
        "-",
    ]


def test_every_group_has_a_look_of_its_own():
    looks = {(look["color"], str(look["linestyle"])) for look in map(style, range(len(COLOURS) * len(LINES)))}
    assert len(looks) == 28
