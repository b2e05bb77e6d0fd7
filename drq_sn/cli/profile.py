"""`drq-sn profile agent=drq heads=[mlp2,modern4] normalizers=[none]`: the paper's Table 3 on this machine."""

from __future__ import annotations

import itertools
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.cli.config.command_line import run_composed
from drq_sn.cli.config.ranges import at_least_1, check_ranges
from drq_sn.cli.running.exit_codes import run_command
from drq_sn.cli.workload import (
    apply_device_settings,
    at_least_real_steps,
    build_row,
    check_choices,
    check_row,
    results_directory,
)
from drq_sn.profiling.turns import take_turns
from drq_sn.report.profile_tables import PROFILE_FILE, write_profile
from drq_sn.runs import provenance
from drq_sn.runs.files import write_json
from drq_sn.training import cpu

CONFIG_NAME = "profile"
RANGES = {
    **dict.fromkeys(("batch_size", "num_updates", "num_rounds", "num_acts"), at_least_1),
    "replay_steps": at_least_real_steps,
}


def run_profile(cfg: DictConfig, overrides: list[str]) -> Path:
    """Measure every head with every normalizer, print the tables, and return the directory with the results.

    `overrides` are those of the command line; they also apply to each row.

    Raises:
        InvalidInput: before anything is measured, for an invalid value.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler reports each start and stop on stderr
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    check_options(cfg, device, overrides)
    agent = str(HydraConfig.get().runtime.choices["agent"])
    measurements: list[dict[str, Any]] = []
    profile = {
        "agent": agent,
        "machine": provenance.describe(device),
        "settings": {**{name: cfg[name] for name in RANGES}, "options": overrides},
        "measurements": measurements,
    }
    machine = provenance.slug(provenance.device_name(device))
    path = Path(cfg.out_dir) / machine / f"{agent}_batch{cfg.batch_size}"
    with results_directory(path, partial(write_profile, profile=profile)) as out_dir:
        rows = []
        for head, normalizer in itertools.product(cfg.heads, cfg.normalizers):
            trace = str(out_dir.absolute() / f"trace_{head}_{normalizer}.json.gz") if cfg.trace else None
            columns, options = {"head": head, "normalizer": normalizer}, [*overrides, f"batch_size={cfg.batch_size}"]
            rows.append(build_row(CONFIG_NAME, columns, options, details=True, trace_path=trace))
        sample = {"num_updates": cfg.num_updates, "num_acts": cfg.num_acts}
        for row, number, measured in take_turns(rows, cfg.num_rounds, sample):
            measurements.append({**row.columns, "round": number, **measured})
            write_json(out_dir / PROFILE_FILE, profile)
    return out_dir


def check_options(cfg: DictConfig, device: torch.device, overrides: list[str]) -> None:
    """Fill in the defaults for `device` and check the options; `heads` and `normalizers` become lists."""
    apply_device_settings(cfg, device)
    check_choices(cfg, {"heads": "head", "normalizers": "normalizer"}, overrides)
    if any(override.startswith("runtime=") for override in overrides):
        raise validation.InvalidInput("runtime must be eager, whose phases can be traced; bench compares runtimes")
    check_ranges(cfg, RANGES)
    for head, normalizer in itertools.product(cfg.heads, cfg.normalizers):
        agent = check_row(
            CONFIG_NAME, {"head": head, "normalizer": normalizer}, [*overrides, f"batch_size={cfg.batch_size}"]
        )
        if not isinstance(agent, ActorCriticAgent):
            raise validation.InvalidInput("agent must have an actor; 'drq-sn bench parts=[games]' measures DQN")
    validation.boolean("trace", cfg.trace)
    validation.path("out_dir", cfg.out_dir)
    paper = cfg.device_settings.cuda
    reduced = [f"{name} {cfg[name]} (paper: {paper[name]})" for name in paper if cfg[name] < paper[name]]
    if reduced:
        print("reduced against the paper: " + ", ".join(reduced))


def main() -> None:
    """Check the command line, then profile."""
    note = "a profile goes through heads=[...] and normalizers=[...] by itself"
    run_composed(CONFIG_NAME, lambda cfg: run_profile(cfg, list(HydraConfig.get().overrides.task)), note)


if __name__ == "__main__":
    run_command(main)
