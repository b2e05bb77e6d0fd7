"""`drq-sn bench`: how fast this machine learns, acts, samples, renders and trains (docs/performance.md)."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.cli.config.command_line import run_composed
from drq_sn.cli.config.overrides import check_overrides, search_path_overrides
from drq_sn.cli.config.ranges import at_least_1, check_ranges
from drq_sn.cli.config.search_path import choices_of
from drq_sn.cli.launching.job import CPU_OPTIONS, ExitCodes, Job
from drq_sn.cli.launching.local import LocalLauncher, visible_gpus
from drq_sn.cli.running.exit_codes import run_command
from drq_sn.cli.running.signals import Stopped
from drq_sn.cli.workload import (
    apply_device_settings,
    at_least_real_steps,
    build_row,
    check_choices,
    check_row,
    results_directory,
    to_list,
)
from drq_sn.envs import make_env, require_task
from drq_sn.envs.gl import select_backend
from drq_sn.profiling.profiler import measure_rendering
from drq_sn.profiling.turns import take_turns
from drq_sn.report.bench_tables import BENCH_FILE, write_bench
from drq_sn.runs import provenance
from drq_sn.runs.files import write_json
from drq_sn.runs.reader import EVAL, read_log
from drq_sn.training import cpu
from drq_sn.training.limits import num_available_cores

CONFIG_NAME = "bench"
EPISODE_FRAMES = 1000
GROUPS = {"agents": "agent", "heads": "head", "normalizers": "normalizer", "runtimes": "runtime"}
LISTS = ("parts", "values", "q_networks", "rendered_tasks", "runs_at_once")
GAME, CHANNELS = "minatar_breakout", "agent.q_network.channels"
RANGES = {
    **dict.fromkeys(("num_rounds", "num_updates", "num_game_updates", "num_acts", "rendered_frames"), at_least_1),
    "replay_steps": at_least_real_steps,
    "training_frames": partial(validation.integer, minimum=2 * EPISODE_FRAMES),
}
OTHERS = ("vary", "training_preset")
RENDER_SETTINGS: dict[str, dict[str, Any]] = {
    "exact": {},
    "shadow map of 1024": {"shadow_map_size": 1024},
    "no shadows": {"shadows": False},
    "no shadows, no reflections": {"shadows": False, "reflections": False},
}


def run_bench(cfg: DictConfig, overrides: list[str]) -> Path:
    """Measure the parts that `cfg` names, print tables, and return the directory with the results.

    `overrides` are those of the command line; they also apply to each row.

    Raises:
        InvalidInput: before anything is measured, for an invalid value.
    """
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    check_options(cfg, device, overrides)
    backend = select_backend()
    results: dict[str, list[dict[str, Any]]] = {part: [] for part in cfg.parts}
    bench = {
        "machine": provenance.describe(device),
        "gl": {"backend": backend.name, "renderer": backend.renderer},
        "settings": OmegaConf.to_container(OmegaConf.masked_copy(cfg, [*GROUPS, *LISTS, *RANGES, *OTHERS])),
        "options": overrides,
        "results": results,
    }
    path = Path(cfg.out_dir) / provenance.slug(provenance.device_name(device))
    with results_directory(path, partial(write_bench, bench=bench)) as out_dir:
        for part in results:
            for _ in MEASURE[part](cfg, overrides, results[part]):
                write_json(out_dir / BENCH_FILE, bench)
    return out_dir


def check_options(cfg: DictConfig, device: torch.device, overrides: list[str]) -> None:
    """Fill in the defaults for `device`, make list options lists, and check everything."""
    has_default = cfg.runs_at_once is None
    apply_device_settings(cfg, device)
    check_choices(cfg, GROUPS, overrides)
    check_ranges(cfg, RANGES)
    validation.path("out_dir", cfg.out_dir)
    for name in LISTS:
        cfg[name] = to_list(cfg[name])
    for part in cfg.parts:
        validation.choice("parts", part, MEASURE)
    for task in cfg.rendered_tasks:
        require_task(task)
    most = num_available_cores() if device.type == "cpu" else validation.LARGEST_INTEGER  # on GPUs, runs share cores
    if has_default:
        cfg.runs_at_once = [number for number in cfg.runs_at_once if number <= most]
    for number in cfg.runs_at_once:
        validation.integer("runs_at_once", number, maximum=most)
    validation.choice("training_preset", cfg.training_preset, choices_of("preset"))
    _check_varied(cfg)
    _check_rows(cfg, overrides)


def _check_varied(cfg: DictConfig) -> None:
    if bool(cfg.vary) != bool(cfg["values"]):
        raise validation.InvalidInput("vary and values must be set together, such as vary=batch_size values=[64,128]")
    if cfg.vary in {*GROUPS, *GROUPS.values(), *LISTS, *RANGES, *OTHERS, "out_dir"}:
        raise validation.InvalidInput(f"vary must be an option of train.yaml without a list of its own, got {cfg.vary}")
    for value in cfg["values"]:
        check_overrides([f"{cfg.vary}={value}"], CONFIG_NAME)


def _check_rows(cfg: DictConfig, overrides: list[str]) -> None:
    """Raise `InvalidInput` if nothing is to be measured, or the agent of a row cannot be built."""
    validation.integer("number of parts", len(cfg.parts))
    if "rendering" in cfg.parts:
        validation.integer("number of rendered_tasks", len(cfg.rendered_tasks))
    if "games" in cfg.parts:
        validation.integer("number of q_networks", len(cfg.q_networks))
    rows = [*(update_rows(cfg) if "updates" in cfg.parts else []), *(game_rows(cfg) if "games" in cfg.parts else [])]
    for row in (row for row in rows if row["runtime"] == cfg.runtimes[0]):  # which changes nothing here
        check_row(CONFIG_NAME, row, overrides)


def update_rows(cfg: DictConfig) -> list[dict[str, Any]]:
    """Columns of the part `updates`: every agent and head with every normalizer, runtime and value."""
    varied = [{cfg.vary: value} for value in cfg["values"]] or [{}]
    choices = itertools.product(cfg.agents, cfg.heads, cfg.normalizers, cfg.runtimes, varied)
    return [
        {"agent": agent, "head": head, "normalizer": normalizer, "runtime": runtime, **more}
        for agent, head, normalizer, runtime, more in choices
    ]


def game_rows(cfg: DictConfig) -> list[dict[str, Any]]:
    """Columns of the part `games`, DQN on MinAtar: every Q network with every normalizer and runtime."""
    choices = itertools.product(cfg.q_networks, cfg.normalizers, cfg.runtimes)
    return [
        {"agent": "dqn", "task": GAME, CHANNELS: str(channels), "normalizer": normalizer, "runtime": runtime}
        for channels, normalizer, runtime in choices
    ]


def _updates(cfg: DictConfig, overrides: list[str], results: list[dict[str, Any]]) -> Iterator[None]:
    """The rows of one agent interleaved, one agent after the other."""
    for agent in cfg.agents:
        rows = [row for row in update_rows(cfg) if row["agent"] == agent]
        yield from _in_turns(cfg, rows, cfg.num_updates, overrides, results)


def _games(cfg: DictConfig, overrides: list[str], results: list[dict[str, Any]]) -> Iterator[None]:
    yield from _in_turns(cfg, game_rows(cfg), cfg.num_game_updates, overrides, results)


def _in_turns(
    cfg: DictConfig,
    rows: list[dict[str, Any]],
    num_updates: int,
    overrides: list[str],
    results: list[dict[str, Any]],
) -> Iterator[None]:
    """Measure updates, actions and samples of `rows`, given by their columns."""
    sample, by_row = {"num_updates": num_updates, "num_acts": cfg.num_acts}, {}
    built = [build_row(CONFIG_NAME, columns, overrides, details=False) for columns in rows]
    for row, number, measured in take_turns(built, cfg.num_rounds, sample):
        if number == 0:
            by_row[row] = {**row.columns, **measured, "rounds": []}
            results.append(by_row[row])
        elif "error" in measured:
            by_row[row] |= measured
        else:
            by_row[row]["rounds"].append(measured)
        yield


def _rendering(cfg: DictConfig, overrides: list[str], results: list[dict[str, Any]]) -> Iterator[None]:
    """Every task with every render setting."""
    del overrides
    for task in cfg.rendered_tasks:
        _say(f"rendering: {task}")
        with contextlib.ExitStack() as stack:
            envs = {
                name: stack.enter_context(contextlib.closing(make_env(task, 1, **flags)))
                for name, flags in RENDER_SETTINGS.items()
            }
            measured = measure_rendering(envs, cfg.rendered_frames)
        results += [{"task": task, "drawing": name, **values} for name, values in measured.items()]
        yield


def _training(cfg: DictConfig, overrides: list[str], results: list[dict[str, Any]]) -> Iterator[None]:
    """Whole runs: of each agent the first and the last model alone, then several seeds of one in parallel."""
    models = list(itertools.product(cfg.heads, cfg.normalizers))
    alone = [(agent, *model, 1) for agent in cfg.agents for model in dict.fromkeys([models[0], models[-1]])]
    parallel = [(cfg.agents[0], *models[-1], number) for number in cfg.runs_at_once]
    num_frames = cfg.training_frames // 4 * 2  # half of a run, a multiple of the action repeat
    device = provenance.select_device(cfg.device)
    gpus = [visible_gpus()[torch.cuda.current_device()]] if device.type == "cuda" else []
    options = [
        *search_path_overrides(),
        "task=cartpole_balance",
        *(override for override in overrides if override.split("=", 1)[0] in ("task", "num_threads")),
        f"device={device.type}",  # a run sees one GPU, whatever its number
        "video_every_frames=0",
        f"preset={cfg.training_preset}",
        f"eval_every_frames={num_frames}",
        f"num_train_frames={2 * num_frames}",
        f"num_eval_episodes={num_frames // EPISODE_FRAMES}",
    ]
    for *names, number in [*alone, *parallel]:
        model = dict(zip(("agent", "head", "normalizer"), names, strict=True))
        row = {**model, "preset": cfg.training_preset, "runs_at_once": number}
        _say("training: " + " ".join(map(str, row.values())))
        chosen = [*options, *(f"{group}={name}" for group, name in model.items())]
        with tempfile.TemporaryDirectory() as folder:
            results.append(row | train_in_parallel(Path(folder), chosen, number, gpus))
        yield


MEASURE = {"updates": _updates, "games": _games, "rendering": _rendering, "training": _training}


def train_in_parallel(folder: Path, options: list[str], number: int, gpus: list[str]) -> dict[str, Any]:
    """Train `number` seeds at once on each of `gpus`, or on the CPU, as a local sweep does, and measure their speed.

    Returns:
        Frames per second of each run, evaluations included, from the first evaluation after learning
        started to the last one. Or the `error`.
    """
    run_dirs = [folder / f"seed_{seed}" for seed in range(1, number + 1)]
    sets_cpus = tuple(name for name in CPU_OPTIONS if any(option.startswith(f"{name}=") for option in options))
    jobs = [
        Job(path.name, (*options, f"seed={seed}", f"run_dir={path}"), path.with_suffix(".log"), sets_cpus)
        for seed, path in enumerate(run_dirs, 1)
    ]
    launcher = LocalLauncher(number, max(1, num_available_cores() // number), 0, gpus)
    exit_codes: ExitCodes = {}
    try:
        launcher.launch(jobs, _say, exit_codes)
    except Stopped as stop:
        sys.exit(stop.exit_code)
    for job in jobs:
        if exit_codes[job]:
            return {"error": (job.log.read_text().strip().splitlines() or ["no output"])[-1]}
    return {"frames_per_second": [_frames_per_second(path / EVAL) for path in run_dirs]}


def _frames_per_second(path: Path) -> float:
    """From the second evaluation, after which updates are done, to the last."""
    (_, first, *_, last) = read_log(path).series("wall_time_s").items()
    return (last[0] - first[0]) / (last[1] - first[1])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Check the command line, then measure."""
    note = "a benchmark goes through agents, heads, normalizers and runtimes by itself"
    run_composed(CONFIG_NAME, lambda cfg: run_bench(cfg, list(HydraConfig.get().overrides.task)), note)


if __name__ == "__main__":
    run_command(main)
