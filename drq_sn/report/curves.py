"""What happened inside runs, as numbers: curves over frames, averaged over seeds (Bjorck et al. 2021, Figure 3)."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from drq_sn.runs.reader import DIAGNOSTICS, EVAL, TRAIN, Run

BIN_FRAMES = 1000  # episodes of different seeds end at different frames; their bins are the same

Row = dict[str, Any]
Groups = Mapping[str, Sequence[Run]]
"""Label -> the runs that differ in nothing but their seed."""


class Quantity(NamedTuple):
    """What one panel shows.

    Attributes:
        name: in `diagnosis.csv`.
        title: on the panel.
        file: which of a run's files has it.
        columns: see `Log.values`.
        log: drawn on a logarithmic axis; every mean is then one of the logarithm.
        combine: several columns -> one number.
        bin_frames: width of the bins that rows are averaged in; None where seeds have rows at the same frames.
    """

    name: str
    title: str
    file: str
    columns: str
    log: bool = False
    combine: Callable[[Sequence[float]], float] = statistics.fmean
    bin_frames: int | None = None


RETURN = Quantity("episode_return", "evaluation return", EVAL, "episode_return_mean")
FIGURE3 = (
    Quantity("critic_loss", "critic loss on the replay", DIAGNOSTICS, "critic_loss", log=True),
    RETURN,
    Quantity("grad_norm/actor", "actor gradient norm", TRAIN, "grad_norm/actor", log=True, bin_frames=BIN_FRAMES),
    Quantity("grad_norm/critic", "critic gradient norm", TRAIN, "grad_norm/critic", log=True, bin_frames=BIN_FRAMES),
)
RANKS = {name: Quantity(f"effective_rank/{name}", f"effective rank, {name}", DIAGNOSTICS, f"effective_rank/{name}")
         for name in ("critic", "actor")}  # fmt: skip
INSTRUMENTS = (
    Quantity("action_gradient_mean", "gradient of Q by the action, mean norm", DIAGNOSTICS, "action_gradient_mean", log=True),
    Quantity("smoothness", "smoothness", DIAGNOSTICS, "smoothness", log=True),
    Quantity("overestimation", "overestimation", DIAGNOSTICS, "overestimation"),
    *RANKS.values(),
    Quantity("dormant/critic", "share of dormant units, critic", DIAGNOSTICS, "dormant/critic"),
    Quantity("dormant/actor", "share of dormant units, actor", DIAGNOSTICS, "dormant/actor"),
    Quantity("sigma_max/critic", "largest spectral norm of the critic's layers", DIAGNOSTICS, "sigma/critic.", log=True,
             combine=max),
    Quantity("effective_lr/critic", "effective learning rate, mean of the critic's layers", DIAGNOSTICS, "effective_lr/critic.",
             log=True),
)  # fmt: skip


class Points(NamedTuple):
    """One quantity of one run: frame -> value, the frames whose values were all left out, and how many were, by reason."""

    values: dict[float, float]
    gaps: set[float]
    left_out: Counter[str]


class Curve(NamedTuple):
    """Mean over seeds, a band of one standard error that is NaN where one seed has a value, and how many have; all (frames,)."""

    frames: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_seeds: np.ndarray


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group -> its runs by seed. Where one label stands for several tasks, or twice for a seed, its folder is added."""
    labelled: dict[str, list[Run]] = {}
    for run in runs:
        labelled.setdefault(run.label, []).append(run)
    groups: dict[str, list[Run]] = {}
    for label, members in labelled.items():
        one_group = len({run.task for run in members}) == 1 and len({run.seed for run in members}) == len(members)
        for run in members:
            groups.setdefault(label if one_group else f"{label} in {run.place}", []).append(run)
    return {label: sorted(members, key=lambda run: run.seed) for label, members in groups.items()}


def shorten(labels: Sequence[str]) -> tuple[str, list[str]]:
    """What all labels share at their beginning and end, and the labels without it; words end at `_` and spaces."""
    if len(labels) == 1:
        return labels[0], list(labels)
    words = [re.findall(r"[^_ ]*[_ ]|[^_ ]+$", label) for label in labels]
    spare = min(map(len, words)) - 1  # every label keeps a word
    first = _num_shared(words, spare)
    last = _num_shared([line[::-1] for line in words], spare - first)
    short = ["".join(line[first : len(line) - last]).strip("_ ") for line in words]
    shared = ("".join(words[0][:first]).strip("_ "), "".join(words[0][len(words[0]) - last :]).strip("_ "))
    return ", ".join(filter(None, shared)), short


def _num_shared(words: Sequence[Sequence[str]], limit: int) -> int:
    """How many words, up to `limit`, all lines begin with."""
    same = (len(set(column)) == 1 for column in zip(*words, strict=False))
    return next((i for i, ok in enumerate(same) if not ok or i == limit), limit)


def points(run: Run, quantity: Quantity) -> Points:
    """The values of `quantity` that can be drawn: finite, and positive on a logarithmic axis.

    Several values in one bin become their mean, on a logarithmic axis the geometric one. A bin bears the frame it ends with.
    Without bins, the last of several rows with the same frame counts.
    """
    kept: dict[float, list[float]] = {}
    left_out: Counter[str] = Counter()
    log, width = run.logs.get(quantity.file), quantity.bin_frames
    rows = list(log.values(quantity.columns)) if log else []
    for frame, numbers in rows if width else dict(rows).items():
        value = quantity.combine(numbers)
        together = kept.setdefault(math.ceil(frame / width) * width if width else frame, [])
        if not math.isfinite(value):
            left_out["not finite"] += 1
        elif quantity.log and value <= 0:
            left_out["zero or negative on a log axis"] += 1
        else:
            together.append(value)
    values = {frame: _mean(kept[frame], quantity.log) for frame in sorted(kept) if kept[frame]}
    return Points(values, kept.keys() - values.keys(), left_out)


def average(runs: Sequence[Mapping[float, float]], log: bool = False, gaps: Iterable[float] = ()) -> Curve:
    """Mean and standard error over runs at every frame where one has a value; geometric mean and its band if `log`.

    Args:
        runs: frame -> value, run by run.
        log: whether the logarithm is averaged.
        gaps: frames that appear in any case, as NaN where no run has a value, so that no line is drawn across them.
    """
    frames = sorted({*gaps}.union(*runs))
    found = [[run[frame] for run in runs if frame in run] for frame in frames]
    mean, low, high = np.array([_band(values, log) for values in found], dtype=float).reshape(-1, 3).T
    return Curve(np.array(frames, dtype=float), mean, low, high, np.array([len(values) for values in found]))


def go_on(values: Mapping[float, float], frames: Iterable[float]) -> dict[float, float]:
    """`values` with the last one carried forward to all later `frames`, the rule of the paper for crashed runs."""
    last = max(values, default=math.inf)
    return {**values, **{frame: values[last] for frame in frames if frame > last}}


def _mean(values: Sequence[float], log: bool) -> float:
    return math.exp(statistics.fmean(map(math.log, values))) if log else statistics.fmean(values)


def _band(values: Sequence[float], log: bool) -> tuple[float, float, float]:
    """Mean, mean - error, mean + error."""
    taken = [math.log(value) for value in values] if log else values
    mean, error = mean_and_error(taken)
    band = np.array([mean, mean - error, mean + error])
    return tuple(np.exp(band) if log else band)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, sample sd / sqrt(n); NaN where there are too few values."""
    if not values:
        return math.nan, math.nan
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def table_rows(groups: Groups) -> list[Row]:
    """One row per group: seeds, how they ended, last frames, return and effective ranks there, largest gradient norms."""
    return [
        {
            "group": label,
            "seeds": len(runs),
            "status": Counter(run.status for run in runs),
            "frames": [run.last_frame for run in runs],
            "return": mean_and_error(_last(runs, RETURN)),
            **{f"largest_grad_norm/{name}": largest_norm(runs, name) for name in ("actor", "critic")},
            **{f"effective_rank/{name}": mean_and_error(_last(runs, rank))[0] for name, rank in RANKS.items()},
        }
        for label, runs in groups.items()
    ]


def _last(runs: Sequence[Run], quantity: Quantity) -> list[float]:
    """Each run's last value, of those that have one."""
    return [list(values.values())[-1] for run in runs if (values := points(run, quantity).values)]


def largest_norm(runs: Sequence[Run], network: str) -> float:
    """Largest norm of any update, or episode's mean where that is all there is; infinity counts, what is no number does not."""
    logs = [run.logs[TRAIN] for run in runs if TRAIN in run.logs]
    columns = (f"grad_norm_max/{network}", f"grad_norm/{network}")
    numbers = [value for log in logs for column in columns for _, values in log.values(column) for value in values]
    return max((value for value in numbers if not math.isnan(value)), default=math.nan)
