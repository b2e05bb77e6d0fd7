"""Which runs may be averaged, and what their variants are called: by the options that differ within the given runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from drq_sn.report.table_formats import format_departures
from drq_sn.report.types import PUBLISHED, Run, Variant, agent_title, format_value

HEADS, NORMALIZERS = ("mlp2", "mlp4", "modern2", "modern4"), ("none", "spectral")  # of the paper, in its order
NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e-?\d+)?)")
MAX_SHOWN = 2  # options of every variant; of more, only those that are not at their published or preset value
ABSENT = "absent"  # value of an option that a run does not have
MAX_NAMED = 3  # options of a variant; with more it gets a number


def sort_variants(variants: Iterable[Variant]) -> list[Variant]:
    """Each variant once: the paper's heads and normalizers in its order, then others by name, numbers by size."""

    def rank(names: tuple[str, ...], name: str) -> tuple[int, str]:
        return names.index(name) if name in names else len(names), name

    def order(variant: Variant) -> tuple[Any, ...]:
        numbers = [part if i % 2 == 0 else float(part) for i, part in enumerate(NUMBER.split(variant.name))]
        return variant.agent, rank(HEADS, variant.head), rank(NORMALIZERS, variant.normalizer), numbers

    return sorted(set(variants), key=order)


def name_variants(runs: Sequence[Run]) -> list[Run]:
    """The same runs with named variants: `lr=3e-4`, or `modern4 + SN, lr=3e-4` where these differ too.

    Two runs have equal variants only if they have the same agent, head, normalizer and setting. Where the given runs
    all have one setting, variants keep the names of head and normalizer.
    """
    values = _differing_values(runs)
    if not values:
        return list(runs)
    titles = _short_names(values)
    few, several = len(set(titles.values())) <= MAX_SHOWN, len({run.variant[1:3] for run in runs}) > 1
    numbers: dict[str, int] = {}
    named = []
    for index, run in enumerate(runs):
        shown = {titles[name]: column[index] for name, column in values.items()
                 if name in run.changes or (few and column[index] != ABSENT)}  # fmt: skip
        text = ", ".join(f"{title}={value}" for title, value in shown.items())
        if len(shown) > MAX_NAMED:
            text = f"settings {numbers.setdefault(run.setting, len(numbers) + 1)}"
        name = ", ".join(filter(None, (run.variant.label if several or not text else "", text)))
        named.append(replace(run, variant=run.variant._replace(name=name)))
    return named


def _differing_values(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Option -> its value in each of `runs`, for every option that some of them change and that differs."""
    names = dict.fromkeys(name for run in runs for name in run.changes)
    return {
        name: [format_short(run.changes[name]) if name in run.changes else _unchanged_value(name, run, runs)
               for run in runs]
        for name in names
        if len({format_value(run.changes[name]) if name in run.changes else "" for run in runs}) > 1
    }  # fmt: skip


def _unchanged_value(name: str, run: Run, runs: Iterable[Run]) -> str:
    """The value of an option in `run`, which does not change it; `published` where it depends on the task."""
    if name == "preset":
        return "published"
    peers = [r for r in runs if (r.variant, r.preset.name) == (run.variant, run.preset.name) and name not in r.changes]
    values = {format_short(peer.options.get(name, ABSENT)) for peer in peers}
    return values.pop() if len(values) == 1 else run.preset.name or "published"


def _short_names(values: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Dotted name -> shortest end of it without `num_` that no other option has, unless both always have one value."""
    titles = {}
    for name, column in values.items():
        parts = [part.removeprefix("num_") for part in name.split(".")]
        ends = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        others = [other for other, theirs in values.items() if other != name and list(theirs) != list(column)]
        taken = {".".join(part.removeprefix("num_") for part in other.split(".")[-n:])
                 for other in others for n in range(1, 4)}  # fmt: skip
        titles[name] = next((end for end in ends if end not in taken), name)
    return titles


def format_short(value: Any) -> str:
    """The value of an option as short as the command line takes it: `3e-4` for 0.0003."""
    if not isinstance(value, float) or value == 0:
        return format_value(value)
    plain = format_value(value)
    scientific = re.sub(r"E\+?", "e", f"{Decimal(plain).normalize():E}")
    return scientific if len(scientific) < len(plain) else plain


def describe_settings(runs: Iterable[Run]) -> list[str]:
    """One line per agent and setting with its departures from the published one; none for the latter."""
    settings: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        settings.setdefault((run.variant.agent, run.setting), []).append(run)
    several_agents = len({agent for agent, _ in settings}) > 1
    lines = []
    for (agent, _), members in settings.items():
        if departures := ", ".join(format_departures(departure for run in members for departure in run.departures)):
            variants = sort_variants(run.variant for run in members)
            names = dict.fromkeys(v.label.removeprefix(v.choices.label).removeprefix(", ") for v in variants)
            title = "; ".join(filter(None, names)) or "all runs"
            lines.append(f"{f'{agent_title(agent)}, ' if several_agents else ''}{title}: {departures}.")
    return lines


def once_per_seed(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[Run, Run]]]:
    """Each seed of a task and variant once, and pairs of a duplicate and the run that counts in its place.

    Of several directories the one with most evaluations counts, the first of these.
    """
    best: dict[tuple[Variant, str, int], Run] = {}
    for run in runs:
        key = run.variant, run.task, run.seed
        if key not in best or len(run.evaluations) > len(best[key].evaluations):
            best[key] = run
    pairs = ((run, best[run.variant, run.task, run.seed]) for run in runs)
    return list(best.values()), [(run, counted) for run, counted in pairs if run is not counted]


def group_by_protocol(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Protocol -> its runs, the published one first."""
    groups: dict[str, list[Run]] = {PUBLISHED: []}
    for run in runs:
        groups.setdefault(run.protocol, []).append(run)
    return {protocol: members for protocol, members in groups.items() if members}


def label_variants(runs: Sequence[Run]) -> dict[Variant, str]:
    """Variant -> its label in legends, with the agent if there are several."""
    variants = sort_variants(run.variant for run in runs)
    several = len({variant.agent for variant in variants}) > 1
    return {variant: variant.title if several else variant.label for variant in variants}
