"""`python -m drq_sn.cli.profile agent=drq heads=[mlp2,modern4] normalizers=[none]`: the paper's Table 3 here."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from drq_sn import validation
from drq_sn.cli.config.build import build_env, build_replay, config_dir
from drq_sn.cli.config.overrides import check_command_line, group_options
from drq_sn.cli.fresh_process import ProcessDied, in_fresh_process
from drq_sn.cli.running.checkpointing import seed_everything
from drq_sn.cli.running.exit_codes import exit_on_invalid_input
from drq_sn.cli.running.run_dir import make_folder, move_aside
from drq_sn.cli.workload import NUM_REAL_STEPS, build_warm_agent, fill, row_config
from drq_sn.envs import require_task
from drq_sn.envs.gl import select_backend
from drq_sn.profiling.profiler import measure_agent
from drq_sn.report.profile_tables import format_tables, table_rows, write_report
from drq_sn.report.published import TABLE3, read_table
from drq_sn.runs import provenance
from drq_sn.training import cpu

CONFIG_NAME = "profile"


def run_profile(cfg: DictConfig, words: list[str]) -> Path:
    """Measure every head with every normalizer, print the tables, and return the folder with the results.

    Args:
        cfg: the composed configuration.
        words: the overrides that made it, to compose each row's own.

    Raises:
        InvalidInput: before anything is measured, for a wrong value.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler notes each start and stop on stderr
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    settings = check_settings(cfg, device, words)
    name = provenance.slug(provenance.device_name(device))
    agent = str(HydraConfig.get().runtime.choices["agent"])
    out_dir = make_folder(Path(cfg.out_dir) / name / f"{agent}_batch{settings['batch_size']}", "out_dir")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # through the `finally` below
    measurements: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as traces:
        try:
            for measurement in _measurements(cfg, words, settings, Path(traces)):
                measurements.append(measurement)
        finally:  # what is measured is kept, also when the rest is interrupted
            if measurements:
                about = {"agent": agent, "machine": provenance.describe(device), "settings": settings}
                rows = table_rows(measurements, read_table(TABLE3, key="head"))
                text = format_tables(rows, measurements)
                print(text)
                move_aside(out_dir)
                write_report(out_dir, about, rows, text, measurements, Path(traces))
                print(f"results in {out_dir}")
    return out_dir


def check_settings(cfg: DictConfig, device: torch.device, words: list[str]) -> dict[str, Any]:
    """The numbers of this profile, checked; what the user left open is filled in for the device."""
    for group, option in (("head", "heads"), ("normalizer", "normalizers")):
        for word in words:
            if word.startswith(f"{group}="):
                raise validation.InvalidInput(f"{word}: profile takes a list, {option}=[{word.split('=', 1)[1]}]")
        names = cfg[option] if OmegaConf.is_list(cfg[option]) else [cfg[option]]
        for name in names:
            validation.choice(option, name, group_options()[group])
        cfg[option] = list(dict.fromkeys(names))
        validation.integer(f"number of {option}", len(names))
    if any(word.startswith("runtime=") for word in words):
        raise validation.InvalidInput("runtime must be eager, whose phases can be traced; make bench compares runtimes")
    require_task(cfg.task)
    select_backend()
    defaults = cfg.device_settings[device.type]
    numbers = {name: cfg[name] if cfg[name] is not None else defaults[name] for name in defaults}
    for name in numbers:
        validation.integer(name, numbers[name])
    validation.integer("num_acts", cfg.num_acts)
    validation.integer("replay_steps", cfg.replay_steps, minimum=NUM_REAL_STEPS)
    validation.boolean("trace", cfg.trace)
    reduced = {
        name: f"{numbers[name]} (paper: {paper})"
        for name, paper in cfg.device_settings.cuda.items()
        if numbers[name] < paper
    }
    if reduced:
        print("reduced against the paper: " + ", ".join(f"{name} {text}" for name, text in reduced.items()))
    return {**numbers, "num_acts": cfg.num_acts, "replay_steps": cfg.replay_steps, "options": words}


def _measurements(
    cfg: DictConfig, words: list[str], settings: dict[str, Any], traces: Path
) -> Iterator[dict[str, Any]]:
    """One measurement per process; runs go round all rows, so that a slow minute spoils no single row."""
    rows = [(head, normalizer) for head in cfg.heads for normalizer in cfg.normalizers]
    jobs = [(run, *row) for run in range(1, settings["num_runs"] + 1) for row in rows]
    bar = tqdm(jobs, unit="run", leave=False)
    for run, head, normalizer in bar:
        bar.set_description(f"{head} {normalizer}")
        identity = {"head": head, "normalizer": normalizer, "run": run}
        trace = str(traces / f"trace_{head}_{normalizer}.json.gz") if cfg.trace and run == 1 else None
        row_words = [*words, f"head={head}", f"normalizer={normalizer}", f"batch_size={settings['batch_size']}"]
        try:
            yield identity | in_fresh_process(_measure, row_words, settings, run == 1, trace)
        except (RuntimeError, ProcessDied) as error:  # such as memory running out: the other rows still count
            yield identity | {"error": str(error).splitlines()[0]}


def _measure(words: list[str], settings: dict[str, Any], details: bool, trace: str | None) -> dict[str, Any]:
    """Measure one head with one normalizer; runs in a process of its own."""
    cfg = row_config(CONFIG_NAME, words)
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    seed_everything(cfg.seed)
    with contextlib.closing(build_env(cfg, cfg.seed)) as env:
        replay = build_replay(cfg, env, device)
        obs = fill(replay, env, settings["replay_steps"])
        return measure_agent(
            lambda: build_warm_agent(cfg, env, device),
            replay,
            torch.as_tensor(obs, device=device),
            device,
            settings["num_updates"],
            settings["num_acts"],
            details,
            Path(trace) if trace else None,
        )


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
