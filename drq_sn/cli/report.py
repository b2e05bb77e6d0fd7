"""`drq-sn report runs=[DIR,...] out=report`: the paper's tables and figures, and diagnostics, from runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.cli.config.command_line import run_composed
from drq_sn.cli.config.experiments import load_experiment
from drq_sn.cli.config.identify import read_run
from drq_sn.cli.config.ranges import REPORT, check_ranges
from drq_sn.cli.running.exit_codes import run_command
from drq_sn.cli.running.run_dir import make_folder
from drq_sn.output import require_written
from drq_sn.report.build import INDEX, RUNS, Choices, build_report
from drq_sn.report.costs import FIELDS
from drq_sn.report.profile_tables import find_profiles
from drq_sn.report.types import Experiment, Run
from drq_sn.runs.files import write_atomically
from drq_sn.runs.reader import VALID, find_runs

CONFIG_NAME = "report"
EXTRA = ("jinja2", "matplotlib", "rliable")
EXPERIMENTS = ("table1", "table2", "figure1", "figure2", "figure3", "figure4")
COMPARISONS = ("gogianu_lr", "gogianu_depth", "gogianu_schedulers", "gogianu_all_layers")
PRESETS = ("published", "laptop")
FILES = "report_files.txt"
FILES_HEADER = "written by `drq-sn report`, which replaces these files when it writes here again:"
WRITTEN_BY = "written by "  # how the lists of all versions begin


def run_report(patterns: Sequence[str], out: Path, choices: Choices, profiles: Sequence[str]) -> None:
    """Write the report of the runs that `patterns` name to `out`; print the scores of all runs and every warning.

    Raises:
        InvalidInput: without the extra's packages, if a run can't be found, none can be read, or `out` holds other
            files; nothing is written then.
    """
    validation.extra_installed("report", EXTRA)
    _require_own(out)
    runs, unreadable = read_runs(patterns)
    comparisons, profiled = load_comparisons(), find_profiles(profiles)
    report = build_report(runs, load_experiments(), comparisons, profiled, choices, Path.cwd(), unreadable)
    write_files(out, report.files)
    warnings = [f"warning: {line}" for line in report.warnings]
    print("\n".join([report.text, *warnings, f"\nreport with all tables and figures: {out / INDEX}"]))


def _require_own(out: Path) -> None:
    """Raise `InvalidInput` if `out` is a file, or a directory with files but without a report."""
    remedy = "use a new or empty directory, or an earlier report"
    if out.exists() and not out.is_dir():
        raise validation.InvalidInput(f"out={out} is a file; {remedy}")
    header = f"{','.join(FIELDS)}\n".encode()
    is_report = (out / RUNS).is_file() and (out / RUNS).read_bytes().startswith(header)
    if out.is_dir() and any(out.iterdir()) and not is_report:
        raise validation.InvalidInput(f"out={out} holds files but no report; {remedy}")


def read_runs(patterns: Sequence[str]) -> tuple[list[Run], list[str]]:
    """Every run that `patterns` name, and a warning for each that cannot be read.

    Raises:
        InvalidInput: if none can be read.
    """
    runs, unreadable = [], []
    for run_dir in find_runs(patterns):
        try:
            runs.append(read_run(run_dir))
        except validation.InvalidInput as error:
            unreadable.append(str(error))
    if not runs:
        raise validation.InvalidInput(unreadable[0])
    return runs, [f"left out, not readable: {reason}" for reason in unreadable]


def load_experiments() -> dict[str, Experiment]:
    """Name of every experiment of the report -> the runs that it needs."""
    return {name: load_experiment(name) for name in EXPERIMENTS}


def load_comparisons() -> list[Experiment]:
    """The experiments whose variants have names, as published and at the scale of each smaller preset."""
    experiments = [(load_experiment(name, preset), preset) for name in COMPARISONS for preset in PRESETS]
    return [replace(e, name=f"{e.name}_{preset}") if e.has_preset else e for e, preset in experiments]


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` to `out`, and delete those of an earlier report, by its own list, that are not among them."""
    make_folder(out, "out")
    earlier = (out / FILES).read_text(errors="replace") if (out / FILES).is_file() else ""
    header, *listed = earlier.splitlines() or [""]
    files = {quote(name, safe=""): data for name, data in files.items()}  # tasks may have slashes
    for name, data in files.items():
        write_atomically(out / name, data)
    for name in listed if header.startswith(WRITTEN_BY) else []:
        if name not in files and Path(name).name == name:
            (out / name).unlink(missing_ok=True)
    write_atomically(out / FILES, "".join(f"{line}\n" for line in (FILES_HEADER, *sorted(files))).encode())


def parse_patterns(value: Any) -> list[str]:
    """The option `runs`, a string or a list, as a list."""
    patterns = OmegaConf.to_container(value) if OmegaConf.is_list(value) else [] if value is None else [value]
    if not isinstance(patterns, list) or not patterns:
        raise validation.InvalidInput(f"runs must name run directories, got {value}; {VALID}")
    return [str(pattern) for pattern in patterns]


def parse_choices(cfg: DictConfig) -> Choices:
    """The options of the report, checked."""
    check_ranges(cfg, REPORT)
    return Choices(cfg.frame, cfg.num_bootstrap, cfg.seed)


def _report(cfg: DictConfig) -> None:
    profiles = parse_patterns(cfg.profiles) if cfg.profiles else []
    run_report(parse_patterns(cfg.runs), Path(str(cfg.out)), parse_choices(cfg), profiles)
    require_written()


def main() -> None:
    """Check the command line, then report."""
    run_composed(CONFIG_NAME, _report, "a report shows all of runs=[...] side by side by itself")


if __name__ == "__main__":
    run_command(main)
