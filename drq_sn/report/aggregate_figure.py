"""What all tasks of an agent say together, drawn (statistics of Agarwal et al. 2021, made by rliable)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drq_sn.report.style import NORMAL, SMALL, add_legend, canvas, counted, in_frames, looks, say_nothing_there
from drq_sn.report.types import Aggregates, Interval

WIDTH = 9.5  # inches
ROW, MARGIN = 0.26, 1.0  # height of a line with a dot, and of what stands around the lines of a panel
MANY_PAIRS = 8  # more stand below both other panels
DOT = {"marker": "o", "markersize": 6, "linestyle": ""}


def draw(found: Aggregates) -> Any:
    """The matplotlib figure; its axes are the means, the improvements and the profiles."""
    many = len(found.improvement) > MANY_PAIRS
    rows = (max(8 if many else 2, len(found.iqm)), max(2, len(found.improvement)))
    heights = [number * ROW + MARGIN for number in rows]
    figure = canvas(WIDTH, max(sum(heights), 3.6) + 0.5)
    grid = figure.add_gridspec(2, 2, height_ratios=heights, width_ratios=(1, 1.05))
    places = (grid[0, 0], grid[1, :], grid[0, 1]) if many else (grid[0, 0], grid[1, 0], grid[:, 1])
    means, improvements, profiles = map(figure.add_subplot, places)
    styles = looks(list(found.num_seeds))
    _draw_intervals(means, found.iqm, [styles[label]["color"] for label in found.iqm])
    means.set_title("interquartile mean of return / 1000", fontsize=NORMAL)
    pairs = {f"{better} > {worse}": interval for (better, worse), interval in found.improvement.items()}
    _draw_intervals(improvements, pairs, [styles[better]["color"] for better, _ in found.improvement])
    improvements.set_title("probability of improvement", fontsize=NORMAL)
    if pairs:
        improvements.axvline(0.5, color="black", linewidth=0.8, linestyle=":", zorder=1)
        improvements.set_xlim(-0.02, 1.02)
    _draw_profiles(profiles, found, styles)
    _add_legend(figure, found, styles)
    return figure


def _draw_intervals(axes: Any, intervals: Mapping[str, Interval], colors: Sequence[str]) -> None:
    """One line per entry, downwards: a dot, its interval, and both in numbers at the right."""
    axes.tick_params(labelsize=SMALL)
    if not intervals:
        say_nothing_there(axes, "nothing to compare")
        axes.set(xticks=[], yticks=[])
        return
    for row, (interval, color) in enumerate(zip(intervals.values(), colors, strict=True)):
        value, low, high = interval
        axes.plot([low, high], [row, row], color=color, linewidth=3, alpha=0.45, solid_capstyle="butt")
        axes.plot(value, row, color=color, **DOT)
        text = f"{value:.2f} [{low:.2f}, {high:.2f}]"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), fontsize=SMALL, va="center")
    axes.set(ylim=(len(intervals) - 0.4, -0.6), yticks=range(len(intervals)))
    axes.set_yticklabels([label.replace("$", r"\$") for label in intervals], fontsize=SMALL)
    axes.grid(alpha=0.3, axis="x")


def _draw_profiles(axes: Any, found: Aggregates, styles: Mapping[str, Any]) -> None:
    axes.set_title("performance profiles", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    if not found.profiles:
        say_nothing_there(axes, "nothing to compare")
        axes.set(xticks=[], yticks=[])
        return
    for label, (value, low, high) in found.profiles.items():
        axes.plot(found.thresholds, value, **styles[label])
        axes.fill_between(found.thresholds, low, high, color=styles[label]["color"], alpha=0.15, linewidth=0)
    axes.set(ylim=(-0.02, 1.02))
    axes.set_xlabel("score: return / 1000", fontsize=NORMAL)
    axes.set_ylabel("share of runs above the score", fontsize=NORMAL)
    axes.grid(alpha=0.3)


def _add_legend(figure: Any, found: Aggregates, styles: Mapping[str, Any]) -> None:
    from matplotlib.lines import Line2D

    labels = [f"{label} ({counted(number, 'seed')} per task)" for label, number in found.num_seeds.items()]
    add_legend(figure, [Line2D([], [], **look) for look in styles.values()], labels)


def describe(found: Aggregates) -> str:
    """The figure in words: what it is on the first line, then lines with its numbers."""
    where = f"{found.agent}, {counted(len(found.tasks), 'task')} at {in_frames(found.frame)}"
    lines = [f"All tasks together ({where}): interquartile means, probabilities of improvement, performance profiles."]
    lines += [f"Interquartile mean of {label}: {_words(interval)}." for label, interval in found.iqm.items()]
    lines += [
        f"Probability that {better} scores higher than {worse}: {_words(interval)}."
        for (better, worse), interval in found.improvement.items()
    ]
    return "\n".join(lines)


def _words(interval: Interval) -> str:
    return f"{interval.value:.2f}, 95 % confidence interval {interval.low:.2f} to {interval.high:.2f}"
