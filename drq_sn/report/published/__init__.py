"""Numbers of the papers, transcribed once, as data.

Bjorck et al. (2021) reran DrQ, and their `mlp2` is weaker than the curve that DrQ's authors released on 14 of the 15
tasks of Table 2 (all but cartpole_balance_sparse), so a report shows both. All published curves were made before MuJoCo
3.12 changed how frames look.
"""

from __future__ import annotations

import csv
from importlib import resources
from typing import NamedTuple

TABLE1 = "bjorck_table1.csv"
"""Bjorck et al. (2021), Table 1: DrQ-v2 after 500 000 frames, 10 seeds.

Spreads look like standard errors: they are far smaller than the deviations of other papers over as many seeds. The
paper's "cartpole sparse" is almost surely cartpole_balance_sparse: 1000 of 1000 is out of reach where the pole must
first be swung up.
"""
TABLE2 = "bjorck_table2.csv"
"""Bjorck et al. (2021), Table 2: DrQ after 500 000 frames, 10 seeds; spreads are standard deviations.

Rows with head `dreamer` are Dreamer's scores as that paper reports them.
"""
TABLE3 = "bjorck_table3.csv"
"""Bjorck et al. (2021), Table 3: DrQ at batch 512 on a V100, without spectral normalization.

Columns: head; training memory in GB; acting memory in MB; training and acting time in ms; and
standard deviations over 5 runs where the paper gives them.
"""
RELEASED_HEAD = "mlp2"  # of the original authors' agents
RELEASED = "released_curves.csv"
"""Curves that the authors of DrQ and DrQ-v2 released with their code, up to 500 000 and 1 000 000 frames.

Every 20 000 frames, for three humanoid tasks every 100 000. Columns: agent; task (`cup_catch` for DrQ-v2 is
`ball_in_cup_catch` for DrQ); frame; number of seeds; mean, standard deviation, minimum and maximum of the evaluation
return over seeds.
"""


class ReleasedPoint(NamedTuple):
    """A point of a released curve: mean return, sd over seeds, number of seeds."""

    frame: float
    mean: float
    sd: float
    num_seeds: int


class Reported(NamedTuple):
    """A paper's score: mean return, and whatever spread that table gives."""

    mean: float
    spread: float


def read_table(name: str, key: str) -> dict[str, dict[str, float]]:
    """Rows of the table `name`, by their column `key`; every other column as a number."""
    return {row.pop(key): {column: float(value) for column, value in row.items()} for row in _rows(name)}


def read_scores(name: str) -> dict[tuple[str, str, str], Reported]:
    """`TABLE1` or `TABLE2`: (task, head, normalizer) -> score."""
    return {
        (row["task"], row["head"], row["normalizer"]): Reported(float(row["return_mean"]), float(row["return_spread"]))
        for row in _rows(name)
    }


def read_released(agent: str) -> dict[str, list[ReleasedPoint]]:
    """Task -> points of the curve that the authors of `agent` released."""
    curves: dict[str, list[ReleasedPoint]] = {}
    for row in _rows(RELEASED):
        if row["agent"] == agent:
            numbers = float(row["frame"]), float(row["return_mean"]), float(row["return_sd"]), int(row["num_seeds"])
            curves.setdefault(row["task"], []).append(ReleasedPoint(*numbers))
    return curves


def _rows(name: str) -> list[dict[str, str]]:
    with (resources.files(__name__) / name).open() as file:
        return list(csv.DictReader(file))
