"""`python -m drq_sn.cli.diagnose runs=[DIR,...] out=diagnosis`: what happened inside runs, side by side."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig, ListConfig

from drq_sn import validation
from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.overrides import check_command_line
from drq_sn.cli.running.exit_codes import exit_on_invalid_input
from drq_sn.cli.running.run_dir import make_folder, require_own
from drq_sn.report import dynamics_figure
from drq_sn.report.curves import group_runs
from drq_sn.runs.files import write_atomically
from drq_sn.runs.reader import VALID, find_runs, read_run

CONFIG_NAME = "diagnose"


def run_diagnosis(patterns: list[str], out: Path) -> None:
    """Read the runs that `patterns` name, write tables and figures to `out`, and print the table.

    Raises:
        InvalidInput: if a run can't be found or read, or `out` is not free; nothing is written then.
    """
    header = f"{','.join(dynamics_figure.FIELDS)}\n".encode()
    require_own(out, dynamics_figure.TABLE, header, "diagnosis")
    groups = group_runs([read_run(folder) for folder in find_runs(patterns)])
    text, files = dynamics_figure.format_table(groups), dynamics_figure.files(groups)
    make_folder(out, "out")
    for name, data in files.items():
        write_atomically(out / name, data)
    print(text)
    print(f"figures and {dynamics_figure.TABLE} in {out}")


def patterns_of(value: object) -> list[str]:
    """The option `runs`, one word or a list, as words."""
    patterns = list(value) if isinstance(value, ListConfig) else [] if value is None else [value]
    if not patterns:
        raise validation.InvalidInput(f"runs must name runs, got {value}; {VALID}")
    return [str(pattern) for pattern in patterns]


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
def _diagnose(cfg: DictConfig) -> None:
    with exit_on_invalid_input():
        run_diagnosis(patterns_of(cfg.runs), Path(str(cfg.out)))


def main() -> None:
    """Check the command line, then diagnose."""
    check_command_line(CONFIG_NAME, "a diagnosis puts all of runs=[...] side by side by itself")
    _diagnose()


if __name__ == "__main__":
    main()
