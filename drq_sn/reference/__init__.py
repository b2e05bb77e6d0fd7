"""Numbers of the papers, transcribed once, as data."""

from __future__ import annotations

import csv
from importlib import resources

TABLE3 = "bjorck_table3.csv"
"""Bjorck et al. (2021), Table 3: DrQ at batch 512 on a V100, without spectral normalisation.

Columns: head; training memory in GB; acting memory in MB; training and acting time in ms; and
standard deviations over 5 runs where the paper gives them.
"""


def read_table(name: str, key: str) -> dict[str, dict[str, float]]:
    """Rows of the table `name`, by their column `key`; every other column as a number."""
    with (resources.files(__name__) / name).open() as file:
        return {row.pop(key): {column: float(value) for column, value in row.items()} for row in csv.DictReader(file)}
