"""`python -m drq_sn.cli.bench`: how fast this machine learns, acts, draws and trains (docs/performance.md)."""

from __future__ import annotations

import contextlib
import csv
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.agents.runtime import Eager
from drq_sn.cli.config.build import build_env, build_replay, config_dir
from drq_sn.cli.config.overrides import check_command_line, group_options
from drq_sn.cli.fresh_process import ProcessDied, in_fresh_process
from drq_sn.cli.running.checkpointing import seed_everything
from drq_sn.cli.running.exit_codes import exit_on_invalid_input
from drq_sn.cli.running.run_dir import make_folder, move_aside
from drq_sn.cli.workload import NUM_REAL_STEPS, build_warm_agent, fill, row_config
from drq_sn.envs import make_env, require_task
from drq_sn.envs.gl import select_backend
from drq_sn.profiling.benchmark import measure_learning, measure_rendering
from drq_sn.report.bench_tables import Measured, format_tables, write_report
from drq_sn.runs import provenance
from drq_sn.training import cpu

CONFIG_NAME = "bench"
POLL_SECONDS = 0.5
STOP_SECONDS = 60  # for a run to write its checkpoint
PARTS = ("updates", "rendering", "training", "scaling")
DRAWINGS: dict[str, dict[str, Any]] = {
    "exact": {},
    "shadow map of 1024": {"shadow_map_size": 1024},
    "no shadows": {"shadows": False},
    "no shadows, no reflections": {"shadows": False, "reflections": False},
}


def run_bench(cfg: DictConfig, words: list[str]) -> Path:
    """Measure the parts that `cfg` names, print tables, and return the folder with the results.

    Args:
        cfg: the composed configuration.
        words: the overrides that made it; they also reach each measurement.

    Raises:
        InvalidInput: before anything is measured, for a wrong value.
    """
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    for word in words:
        if word.split("=", 1)[0] in ("agent", "head", "normalizer", "runtime"):
            raise validation.InvalidInput(f"{word}: bench takes lists, agents=[...], models=[...] and runtimes=[...]")
    settings = check_settings(cfg, device)
    backend = select_backend()
    out_dir = make_folder(Path(cfg.out_dir) / provenance.slug(provenance.device_name(device)), "out_dir")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # through the `finally` below
    results: Measured = {}
    measure = {"updates": _updates, "rendering": _rendering, "training": _training, "scaling": _scaling}
    try:
        for part in settings["parts"]:
            results[part] = []
            measure[part](settings, words, results[part].append)
    finally:  # what is measured is kept, also when the rest is interrupted
        if any(results.values()):
            renderer = {"backend": backend.name, "renderer": backend.renderer}
            about = {"machine": provenance.describe(device), "gl": renderer, "settings": settings, "options": words}
            text = format_tables(results)
            print(text)
            move_aside(out_dir)
            write_report(out_dir, about, results, text)
            print(f"results in {out_dir}")
    return out_dir


def check_settings(cfg: DictConfig, device: torch.device) -> dict[str, Any]:
    """The numbers of this benchmark, checked; what the user left open is filled in for the device."""
    defaults = cfg.device_settings[device.type]
    settings = {name: defaults[name] if cfg[name] is None else cfg[name] for name in defaults}
    settings |= {
        name: cfg[name] for name in ("parts", "agents", "models", "rendered_tasks", "rendered_frames", "scaling")
    }
    settings = {
        name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for name, value in settings.items()
    }
    valid = {"parts": PARTS, "agents": group_options()["agent"], "runtimes": group_options()["runtime"]}
    for name, names in valid.items():
        settings[name] = [validation.choice(name, value, names) for value in _list_of(name, settings[name])]
    for model in _list_of("models", settings["models"]):
        if not isinstance(model, dict) or set(model) != {"head", "normalizer"}:
            raise validation.InvalidInput(
                f"models must hold entries like {{head: mlp2, normalizer: none}}, got {model}"
            )
        for group, value in model.items():
            validation.choice(f"models.{group}", value, group_options()[group])
    for task in _list_of("rendered_tasks", settings["rendered_tasks"]):
        require_task(task)
    for number in _list_of("runs_at_once", settings["runs_at_once"], minimum=0):
        validation.integer("runs_at_once", number)
    for name in ("num_repeats", "num_updates", "rendered_frames"):
        validation.integer(name, settings[name])
    validation.integer("replay_steps", cfg.replay_steps, minimum=NUM_REAL_STEPS)
    _check_scaling(cfg, _list_of("scaling", settings["scaling"]))
    settings["training"] = _training_of(cfg, settings["training_preset"])
    return settings


def _list_of(name: str, values: Any, minimum: int = 1) -> list[Any]:
    if not isinstance(values, list):
        raise validation.InvalidInput(f"{name} must be a list, got {values}; write {name}=[{values}]")
    validation.integer(f"number of {name}", len(values), minimum)
    return values


def _check_scaling(cfg: DictConfig, scaling: list[Any]) -> None:
    for entry in scaling:
        is_one = isinstance(entry, dict) and set(entry) == {"option", "values"} and isinstance(entry["values"], list)
        if not is_one or OmegaConf.select(cfg, str(entry["option"])) is None:
            raise validation.InvalidInput(
                f"scaling must hold entries like {{option: batch_size, values: [64, 128]}}, got {entry}"
            )


def _training_of(cfg: DictConfig, preset: str) -> dict[str, int]:
    """How much is trained with `preset`."""
    training = dict(cfg.training[validation.choice("training_preset", preset, map(str, cfg.training))])
    if training["num_train_frames"] <= training["eval_every_frames"]:
        raise validation.InvalidInput(f"training.{preset}.num_train_frames must be more than eval_every_frames")
    return training


def _updates(settings: dict[str, Any], words: list[str], add: Callable[[dict[str, Any]], None]) -> None:
    """Every agent, model and runtime."""
    for agent in settings["agents"]:
        for model in settings["models"]:
            for runtime in settings["runtimes"]:
                add(_learning({}, {"agent": agent, **model, "runtime": runtime}, settings, words))


def _scaling(settings: dict[str, Any], words: list[str], add: Callable[[dict[str, Any]], None]) -> None:
    """One model, with one thing changed at a time."""
    model = {"agent": settings["agents"][0], **settings["models"][-1], "runtime": settings["runtimes"][0]}
    for entry in settings["scaling"]:
        for value in entry["values"]:
            changed = {"changed": entry["option"], "value": value}
            add(_learning(changed, model, settings, [*words, f"{entry['option']}={value}"]))


def _learning(
    changed: dict[str, Any], model: dict[str, str], settings: dict[str, Any], words: list[str]
) -> dict[str, Any]:
    """Measure `model`, groups and their options, in a process of its own."""
    row = changed | model
    print("updates: " + " ".join(map(str, row.values())), file=sys.stderr, flush=True)
    own = [*words, *(f"{group}={option}" for group, option in model.items())]
    try:
        return row | in_fresh_process(_measure_learning, own, settings["num_repeats"], settings["num_updates"])
    except (
        RuntimeError,
        ProcessDied,
        validation.InvalidInput,
    ) as error:  # no compiler, no memory: the other rows still count
        return row | {"error": str(error).splitlines()[0]}


def _measure_learning(words: list[str], num_repeats: int, num_updates: int) -> dict[str, Any]:
    cfg = row_config(CONFIG_NAME, words)
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    seed_everything(cfg.seed)
    with contextlib.closing(build_env(cfg, cfg.seed)) as env:
        replay = build_replay(cfg, env, device)
        obs = fill(replay, env, cfg.replay_steps)
        measured = measure_learning(
            lambda: build_warm_agent(cfg, env, device),
            lambda: build_warm_agent(cfg, env, device, Eager()),
            replay,
            obs,
            device,
            num_repeats,
            num_updates,
        )
    return {"batch_size": cfg.batch_size, **measured}


def _rendering(settings: dict[str, Any], words: list[str], add: Callable[[dict[str, Any]], None]) -> None:
    for task in settings["rendered_tasks"]:
        print(f"rendering: {task}", file=sys.stderr, flush=True)
        with contextlib.ExitStack() as stack:
            envs = {
                name: stack.enter_context(contextlib.closing(make_env(task, 1, **flags)))
                for name, flags in DRAWINGS.items()
            }
            for name, figures in measure_rendering(envs, settings["rendered_frames"]).items():
                add({"task": task, "drawing": name, **figures})


def _training(settings: dict[str, Any], words: list[str], add: Callable[[dict[str, Any]], None]) -> None:
    """Whole runs as a user starts them: each model alone on the machine, then several seeds of the last one side by side."""
    alone = [(agent, model, 1) for agent in settings["agents"] for model in settings["models"]]
    together = [(settings["agents"][0], settings["models"][-1], number) for number in settings["runs_at_once"]]
    for agent, model, number in [*alone, *together]:
        row = {"agent": agent, **model, "preset": settings["training_preset"], "runs_at_once": number}
        print("training: " + " ".join(map(str, row.values())), file=sys.stderr, flush=True)
        options = [f"agent={agent}", *(f"{group}={name}" for group, name in model.items()), f"preset={row['preset']}"]
        options += [f"{name}={value}" for name, value in settings["training"].items()]
        options += [word for word in words if word.split("=", 1)[0] in ("task", "device", "runtime", "num_threads")]
        with tempfile.TemporaryDirectory() as folder:
            add(
                row
                | train_side_by_side(Path(folder), ["task=cartpole_balance", "video_every_frames=0", *options], number)
            )


def train_side_by_side(folder: Path, options: list[str], number: int) -> dict[str, Any]:
    """Train `number` seeds at once, each on cores of its own, and say how fast they were.

    Args:
        folder: where the runs go.
        options: of `drq_sn.cli.train`.
        number: how many; with more than there are cores, they share them.

    Returns:
        Frames per second of each run, from the first evaluation after learning began to the last one,
        evaluations included; and the most memory that one of them held, in bytes. Or the `error`.
    """
    cores = cpu.available_cores()
    share = max(1, len(cores) // number)
    runs: list[subprocess.Popen[bytes]] = []
    try:
        for i in range(number):
            _start(folder, options, i, [cores[(i * share + k) % len(cores)] for k in range(share)], runs)
        peak = 0
        while any(run.poll() is None for run in runs):
            peak = max(peak, *(_peak_memory(run.pid) for run in runs))
            time.sleep(POLL_SECONDS)
    except BaseException:
        for run in runs:
            run.terminate()
        for run in runs:
            run.wait(STOP_SECONDS)
        raise
    failed = next((i for i, run in enumerate(runs) if run.returncode), None)
    if failed is not None:
        return {"error": ((folder / f"{failed}.log").read_text().strip().splitlines() or ["no output"])[-1]}
    rates = [_frames_per_second(folder / str(i) / "eval.csv") for i in range(number)]
    return {"frames_per_second": rates, "peak_memory_bytes": peak}


def _start(folder: Path, options: list[str], i: int, cores: list[int], runs: list[subprocess.Popen[bytes]]) -> None:
    command = [sys.executable, "-m", "drq_sn.cli.train", *options, f"seed={i + 1}", f"run_dir={folder / str(i)}"]
    with (folder / f"{i}.log").open("w") as log:
        runs.append(subprocess.Popen([*command, f"cores={cores}".replace(" ", "")], stdout=log, stderr=log))


def _peak_memory(pid: int) -> int:
    """Most bytes that process `pid` has held; 0 once it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _frames_per_second(path: Path) -> float:
    """From the second evaluation, by when learning goes on, to the last."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    frames, seconds = ([float(row[field]) for row in rows] for field in ("frame", "wall_time_s"))
    return (frames[-1] - frames[1]) / (seconds[-1] - seconds[1])


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
def _bench(cfg: DictConfig) -> None:
    with exit_on_invalid_input():
        run_bench(cfg, list(HydraConfig.get().overrides.task))


def main() -> None:
    """Check the command line, then measure."""
    check_command_line(CONFIG_NAME, "a benchmark goes through agents, models and runtimes by itself")
    _bench()


if __name__ == "__main__":
    main()
