"""Profiles as tables, beside Table 3 of Bjorck et al. (2021)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drq_sn.report.published import TABLE3, read_table
from drq_sn.report.table_formats import NO_VALUE, format_csv, format_markdown
from drq_sn.report.types import Row, Table, agent_title
from drq_sn.runs.files import write_atomically
from drq_sn.validation import InvalidInput, describe

PROFILE_FILE = "profile.json"
METRICS = {  # metric -> title, key of a measurement, factor
    "training_memory_gb": ("training memory (GB)", "training_memory", 1e-9),
    "acting_memory_mb": ("acting memory (MB)", "acting_memory", 1e-6),
    "training_time_ms": ("training time (ms per update)", "training_seconds", 1e3),
    "acting_time_ms": ("acting time (ms per action)", "acting_seconds", 1e3),
}
BASE_HEAD, BASE_NORMALIZER = "mlp2", "none"
PAPER_AGENT, PAPER_BATCH, PAPER_NORMALIZER = "drq", 512, "none"
NO_CHANGE = (  # options of a profile that choose rows, samples, machine and files, or are compared on their own
    "agent", "batch_size", "device", "heads", "normalizers", "num_acts", "num_rounds", "num_threads", "num_updates",
    "out_dir", "replay_steps", "trace",
)  # fmt: skip
FIELDS = ("head", "normalizer", "metric", "mean", "sd", "n", "paper", "paper_sd", "agent", "batch_size", "device")


@dataclass(frozen=True)
class Profile:
    """A `profile.json`: what was measured where, and at what batch."""

    agent: str  # name of the agent's option
    batch_size: int  # transitions of an update
    device: str  # the hardware's name
    rows: Sequence[Row]  # from `table_rows`
    phases: Sequence[Row]  # seconds of the phases of an update, by head and normalizer
    changes: Sequence[str] = ()  # options that change what is measured

    @property
    def is_papers(self) -> bool:
        """Whether it was measured at the paper's setting, if on other hardware."""
        return (self.agent, self.batch_size) == (PAPER_AGENT, PAPER_BATCH) and not self.changes


def parse_profile(content: Row) -> Profile:
    """The profile with this content of `profile.json`: agent, machine, settings, measurements."""
    measurements = content["measurements"]
    rows = table_rows(measurements, read_table(TABLE3, key="head"))
    phases = [
        {"head": m["head"], "normalizer": m["normalizer"], **m["phase_seconds"]}
        for m in measurements
        if "phase_seconds" in m
    ]
    settings, device = content["settings"], content["machine"]["device"]
    changes = [option for option in settings["options"] if option.split("=", 1)[0] not in NO_CHANGE]
    return Profile(str(content["agent"]), settings["batch_size"], device, rows, phases, changes)


def find_profiles(folders: Iterable[str]) -> list[Profile]:
    """Every profile in or below `folders`, those at the paper's setting first; missing folders are ignored.

    Raises:
        InvalidInput: for a file that cannot be read.
    """
    paths = dict.fromkeys(path for folder in folders for path in sorted(Path(folder).expanduser().rglob(PROFILE_FILE)))
    return sorted(map(_read_profile, paths), key=lambda profile: not profile.is_papers)


def _read_profile(path: Path) -> Profile:
    try:
        return parse_profile(json.loads(path.read_text()))
    except Exception as error:  # foreign files can raise anything
        raise InvalidInput(f"{path} is not a profile that make profile wrote ({describe(error)})") from None


def table_rows(measurements: Sequence[Row], paper: Mapping[str, dict[str, float]]) -> list[Row]:
    """One row per head and normalizer: mean and sd over rounds, the paper's value, and ratios of both.

    Args:
        measurements: `head`, `normalizer` and what `AgentProfiler` measured, or `error`.
        paper: head -> the paper's values.
    """
    rows = []
    for head, normalizer in dict.fromkeys((m["head"], m["normalizer"]) for m in measurements):
        measured = [m for m in measurements if (m["head"], m["normalizer"]) == (head, normalizer)]
        errors = [m["error"] for m in measured if "error" in m]
        num_rounds = len(_values(measured, "training_time_ms"))
        row: Row = {"head": head, "normalizer": normalizer, "num_rounds": num_rounds}
        row |= {"error": errors[0]} if errors else {}
        for metric in METRICS:
            values = _values(measured, metric)
            row[metric] = statistics.mean(values) if values else None
            row[f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
            row[f"{metric}_n"] = len(values)
            row[f"{metric}_paper"] = paper.get(head, {}).get(metric) if normalizer == PAPER_NORMALIZER else None
        flops = next((m["flops_per_update"] for m in measured if "flops_per_update" in m), None)
        row["gflops_per_update"] = flops and flops / 1e9
        row["share_of_matmul"] = statistics.mean(matmul_shares(flops, measured)) if flops and num_rounds else None
        rows.append(row)
    by_name = {(row["head"], row["normalizer"]): row for row in rows}
    for row in rows:
        base = by_name.get((BASE_HEAD, BASE_NORMALIZER), {})
        plain = by_name.get((row["head"], BASE_NORMALIZER), {})
        for metric in METRICS:
            row[f"{metric}_ratio"] = _ratio(row[metric], base.get(metric))
            row[f"{metric}_ratio_paper"] = _ratio(row[f"{metric}_paper"], base.get(f"{metric}_paper"))
            row[f"{metric}_ratio_plain"] = _ratio(row[metric], plain.get(metric))
    return rows


def _values(measurements: Sequence[Row], metric: str) -> list[float]:
    _, key, factor = METRICS[metric]
    values = (m[key] for m in measurements if key in m)  # in files of older versions, memory has several numbers
    return [factor * (value["allocated_bytes"] if isinstance(value, dict) else value) for value in values]


def matmul_shares(flops: float, measurements: Sequence[Row]) -> list[float]:
    """Rate of each timed update, as a fraction of the rate of a matrix product measured beside it."""
    samples = [m for m in measurements if "training_seconds" in m]
    return [flops / m["training_seconds"] / m["matmul_flops_per_second"] for m in samples]


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def table3(profile: Profile, name: str) -> Table:
    """The paper's Table 3 with the heads that were measured."""
    paper = read_table(TABLE3, key="head")
    measured = {(row["head"], row["normalizer"]): row for row in profile.rows}
    device = {"agent": profile.agent, "batch_size": profile.batch_size, "device": profile.device}
    lines, records = [], []
    for head, normalizer in dict.fromkeys([*((head, PAPER_NORMALIZER) for head in paper), *measured]):
        row = measured.get((head, normalizer), {})
        published = paper.get(head, {}) if normalizer == PAPER_NORMALIZER else {}
        line = [head, normalizer]
        for metric in METRICS:
            mean, sd = row.get(metric), row.get(f"{metric}_sd")
            paper_mean, paper_sd = published.get(metric), published.get(f"{metric}_sd")
            line += [_with_sd(mean, sd), _with_sd(paper_mean, paper_sd)]
            records.append({"head": head, "normalizer": normalizer, "metric": metric, "mean": mean, "sd": sd,
                            "n": row.get(f"{metric}_n", 0), "paper": paper_mean, "paper_sd": paper_sd,
                            **device})  # fmt: skip
        lines.append(line)
    columns = ["head", "normalizer", *(name for title, *_ in METRICS.values() for name in (title, "paper"))]
    caption = "Memory and time of training and acting, beside Table 3 of Bjorck et al. (2021)."
    return Table(name, columns, lines, _notes(profile), FIELDS, records, caption=caption)


def _with_sd(value: float | None, sd: float | None) -> str:
    if value is None:
        return NO_VALUE
    return f"{value:.2f}" + (f" ± {sd:.2f}" if sd is not None else "")


def _notes(profile: Profile) -> list[str]:
    paper = "paper: Bjorck et al. (2021), Table 3: DrQ at batch 512 on a V100, without normalizer; mean ± sd of 5 runs."
    ours = f"Ours: {agent_title(profile.agent)} at batch {profile.batch_size} on {profile.device}; mean ± sd of rounds."
    other = [] if profile.is_papers else ["Not the paper's setting: compare ratios between heads, not numbers."]
    failed = [f"{row['head']} {row['normalizer']}: failed: {row['error']}" for row in profile.rows if "error" in row]
    return [ours, paper, *other, *failed]


def metric_table(profile: Profile, metric: str) -> Table:
    """Values and ratios of one metric: to `mlp2` without normalizer, and to the same head without it."""
    lines = []
    for row in profile.rows:
        measured = _with_sd(row[metric], row[f"{metric}_sd"])
        others = (row[f"{metric}_{name}"] for name in ("paper", "ratio", "ratio_paper", "ratio_plain"))
        lines.append([row["head"], row["normalizer"], measured, *map(format_digits, others)])
    return Table(metric, ["head", "normalizer", METRICS[metric][0], "paper", "x mlp2", "paper's", "x none"], lines)


def phase_table(profile: Profile) -> Table:
    """Milliseconds of the phases of an update."""
    phases = list(dict.fromkeys(name for row in profile.phases for name in row))[2:]
    lines = [
        [row["head"], row["normalizer"], *(format_digits(1e3 * row[name]) for name in phases)] for row in profile.phases
    ]
    return Table("phases", ["head", "normalizer", *(f"{name} (ms)" for name in phases)], lines, _notes(profile))


def format_digits(value: float | None) -> str:
    """Three digits, or more before the point."""
    return NO_VALUE if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_profile(out_dir: Path, profile: Row) -> str:
    """Write `table.csv`, `phases.csv` and `table.txt` of a `profile.json`; return the text."""
    parsed = parse_profile(profile)
    text = "\n".join(format_markdown(metric_table(parsed, metric)) for metric in METRICS)
    text += f"\n{format_markdown(phase_table(parsed))}"
    write_atomically(out_dir / "table.csv", format_csv(parsed.rows))
    if parsed.phases:
        write_atomically(out_dir / "phases.csv", format_csv(parsed.phases))
    write_atomically(out_dir / "table.txt", text.encode())
    return text
