"""`drq-sn profile agent=drq heads=[mlp2,modern4] normalizers=[none]`: the paper's Table 3 on this machine."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.cli.config.build import build_env, config_dir
from drq_sn.cli.config.overrides import check_command_line
from drq_sn.cli.running.exit_codes import exit_on_invalid_input
from drq_sn.cli.running.run_dir import make_folder, move_to_backup
from drq_sn.cli.workload import NUM_REAL_STEPS, build_row, choices, device_options, exit_on_sigterm
from drq_sn.profiling.turns import take_turns
from drq_sn.report.profile_tables import PROFILE_FILE, write_profile
from drq_sn.runs import provenance
from drq_sn.runs.files import write_json
from drq_sn.training import cpu

CONFIG_NAME = "profile"


def run_profile(cfg: DictConfig, overrides: list[str]) -> Path:
    """Measure every head with every normalizer, print the tables, and return the directory with the results.

    Args:
        cfg: the composed configuration.
        overrides: those of the command line; they also apply to each row.

    Raises:
        InvalidInput: before anything is measured, for an invalid value.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler reports each start and stop on stderr
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    settings = check_settings(cfg, device, overrides)
    agent = str(HydraConfig.get().runtime.choices["agent"])
    machine = provenance.slug(provenance.device_name(device))
    out_dir = make_folder(Path(cfg.out_dir) / machine / f"{agent}_batch{settings['batch_size']}", "out_dir")
    move_to_backup(out_dir)
    exit_on_sigterm()
    batch = f"batch_size={settings['batch_size']}"
    rows = []
    for head, normalizer in itertools.product(cfg.heads, cfg.normalizers):
        trace = str(out_dir.absolute() / f"trace_{head}_{normalizer}.json.gz") if cfg.trace else None
        columns = {"head": head, "normalizer": normalizer}
        rows.append(build_row(CONFIG_NAME, columns, [*overrides, batch], details=True, trace_path=trace))
    sample = {name: settings[name] for name in ("num_updates", "num_acts")}
    measurements: list[dict[str, Any]] = []
    profile = {
        "agent": agent,
        "machine": provenance.describe(device),
        "settings": settings,
        "measurements": measurements,
    }
    try:
        for row, number, measured in take_turns(rows, settings["num_rounds"], sample):
            measurements.append({**row.columns, "round": number, **measured})
            write_json(out_dir / PROFILE_FILE, profile)
    finally:  # also when interrupted
        if measurements:
            print(write_profile(out_dir, profile))
            print(f"results in {out_dir}")
    return out_dir


def check_settings(cfg: DictConfig, device: torch.device, overrides: list[str]) -> dict[str, Any]:
    """Validate the options; `heads` and `normalizers` become lists. Returns the settings of this profile.

    Raises:
        InvalidInput: for an invalid value.
    """
    for option, group in (("heads", "head"), ("normalizers", "normalizer")):
        cfg[option] = choices(option, cfg[option], group, overrides)
    if any(override.startswith("runtime=") for override in overrides):
        raise validation.InvalidInput("runtime must be eager, whose phases can be traced; bench compares runtimes")
    build_env(cfg, cfg.seed).close()  # fail now if it cannot be built
    settings = device_options(cfg, device) | {"num_acts": cfg.num_acts, "replay_steps": cfg.replay_steps}
    minimums = dict.fromkeys(settings, 1) | {"replay_steps": NUM_REAL_STEPS}
    for name, value in settings.items():
        validation.integer(name, value, minimums[name])
    validation.boolean("trace", cfg.trace)
    paper = cfg.device_settings.cuda
    reduced = [f"{name} {settings[name]} (paper: {paper[name]})" for name in paper if settings[name] < paper[name]]
    if reduced:
        print("reduced against the paper: " + ", ".join(reduced))
    return {**settings, "options": overrides}


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
def _profile(cfg: DictConfig) -> None:
    with exit_on_invalid_input():
        run_profile(cfg, list(HydraConfig.get().overrides.task))


def main() -> None:
    """Check the command line, then profile."""
    check_command_line(CONFIG_NAME, "a profile goes through heads=[...] and normalizers=[...] by itself")
    _profile()


if __name__ == "__main__":
    main()
