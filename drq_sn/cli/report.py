"""`python -m drq_sn.cli.report runs=[DIR,...] out=report`: the paper's tables and figures from runs."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.experiments import Experiment, load_experiment
from drq_sn.cli.config.identify import Recognizer
from drq_sn.cli.config.overrides import check_command_line
from drq_sn.cli.diagnose import patterns_of
from drq_sn.cli.running.exit_codes import exit_on_invalid_input
from drq_sn.cli.running.run_dir import make_folder, require_own
from drq_sn.report.build import INDEX, RUNS, Choices, Report
from drq_sn.report.costs import FIELDS
from drq_sn.report.scores import score_run
from drq_sn.report.table3 import find_profiles
from drq_sn.report.types import Plan, ScoredRun, Variant
from drq_sn.runs.files import write_atomically
from drq_sn.runs.reader import find_runs, read_record, read_run

CONFIG_NAME = "report"
PLANS = ("table1", "table2", "figure1", "figure2", "figure3", "figure4")
FILES = "report_files.txt"
FILES_HEADER = "written by `make report`, which takes these files away when it writes here again:"


def run_report(patterns: list[str], out: Path, choices: Choices, profiles: list[str]) -> None:
    """Read the runs that `patterns` name, write the report to `out`, and print its main tables and every warning.

    Args:
        patterns: folders of runs, folders above them, or globs of either.
        out: a new folder, or one of a former report, which is overwritten.
        choices: what is compared and how.
        profiles: folders with what `make profile` left.

    Raises:
        InvalidInput: if a run can't be found or read, or `out` is not free; nothing is written then.
    """
    require_own(out, RUNS, f"{','.join(FIELDS)}\n".encode(), "report")
    runs = read_runs(patterns)
    plans = {name: as_plan(load_experiment(name)) for name in PLANS}
    report = Report(runs, plans, find_profiles(profiles), choices, Path.cwd())
    report.build()
    write(out, report.files)
    print("\n\n".join(report.text))
    if report.warnings:
        print("\n" + "\n".join(f"warning: {line}".replace("warning: note:", "note:") for line in report.warnings))
    print(f"\n{out / INDEX} has all of it, {out} the tables and figures one by one")


def read_runs(patterns: list[str]) -> list[ScoredRun]:
    """Every run that `patterns` name, recognized."""
    recognizer = Recognizer()
    return [
        score_run(read_run(folder), variant, departures, read_record(folder), options)
        for folder in find_runs(patterns)
        for variant, departures, options in [recognizer.recognize(folder)]
    ]


def as_plan(experiment: Experiment) -> Plan:
    """The runs that `experiment` asks for, as a report knows them."""
    variants = tuple(
        Variant(experiment.agent, variant["head"], variant["normalizer"]) for variant in experiment.variants
    )
    return Plan(
        experiment.name, experiment.agent, experiment.tasks, variants, experiment.seeds, experiment.num_train_frames
    )


def write(out: Path, files: dict[str, bytes]) -> None:
    """Write `files` to `out`, and take away what a former report wrote there, by its own list, and this one does not have."""
    make_folder(out, "out")
    left = _former(out) - files.keys()
    for name, data in files.items():
        write_atomically(out / name, data)
    for name in left:
        (out / name).unlink(missing_ok=True)
    write_atomically(out / FILES, "".join(f"{line}\n" for line in (FILES_HEADER, *sorted(files))).encode())


def _former(out: Path) -> set[str]:
    """Names of the files in `out` that a former report wrote; nothing where it left no list."""
    lines = (out / FILES).read_text(errors="replace").splitlines() if (out / FILES).is_file() else []
    listed = lines[1:] if lines[:1] == [FILES_HEADER] else []
    return {name for name in listed if Path(name).name == name and (out / name).is_file()}


def _choices(cfg: DictConfig) -> Choices:
    frame = None if cfg.frame is None else validation.integer("frame", cfg.frame, minimum=0)
    return Choices(
        frame, validation.integer("num_bootstrap", cfg.num_bootstrap), validation.integer("seed", cfg.seed, minimum=0)
    )


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
def _report(cfg: DictConfig) -> None:
    with exit_on_invalid_input():
        profiles = patterns_of(cfg.profiles) if cfg.profiles else []
        run_report(patterns_of(cfg.runs), Path(str(cfg.out)), _choices(cfg), profiles)


def main() -> None:
    """Check the command line, then report."""
    check_command_line(CONFIG_NAME, "a report puts all of runs=[...] side by side by itself")
    _report()


if __name__ == "__main__":
    main()
