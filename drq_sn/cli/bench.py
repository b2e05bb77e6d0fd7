"""`drq-sn bench`: how fast this machine learns, acts, samples, renders and trains (docs/performance.md)."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.overrides import check_command_line, check_overrides, group_options
from drq_sn.cli.running.exit_codes import exit_on_invalid_input
from drq_sn.cli.running.run_dir import make_folder, move_to_backup
from drq_sn.cli.workload import NUM_REAL_STEPS, build_row, choices, device_options, exit_on_sigterm, plain
from drq_sn.envs import make_env, require_task
from drq_sn.envs.gl import select_backend
from drq_sn.profiling.profiler import measure_rendering
from drq_sn.profiling.turns import take_turns
from drq_sn.report.bench_tables import BENCH_FILE, write_bench
from drq_sn.runs import provenance
from drq_sn.runs.files import write_json
from drq_sn.training import cpu

CONFIG_NAME = "bench"
EPISODE_FRAMES = 1000
STOP_SECONDS = 60  # for a run to write its checkpoint
GROUPS = {"agents": "agent", "heads": "head", "normalizers": "normalizer", "runtimes": "runtime"}
RENDER_SETTINGS: dict[str, dict[str, Any]] = {
    "exact": {},
    "shadow map of 1024": {"shadow_map_size": 1024},
    "no shadows": {"shadows": False},
    "no shadows, no reflections": {"shadows": False, "reflections": False},
}


def run_bench(cfg: DictConfig, overrides: list[str]) -> Path:
    """Measure the parts that `cfg` names, print tables, and return the directory with the results.

    Args:
        cfg: the composed configuration.
        overrides: those of the command line; they also apply to each row.

    Raises:
        InvalidInput: before anything is measured, for an invalid value.
    """
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    settings = check_settings(cfg, device, overrides)
    backend = select_backend()
    out_dir = make_folder(Path(cfg.out_dir) / provenance.slug(provenance.device_name(device)), "out_dir")
    move_to_backup(out_dir)
    exit_on_sigterm()
    results: dict[str, list[dict[str, Any]]] = {part: [] for part in settings["parts"]}
    bench = {
        "machine": provenance.describe(device),
        "gl": {"backend": backend.name, "renderer": backend.renderer},
        "settings": settings,
        "options": overrides,
        "results": results,
    }
    try:
        for part in results:
            for _ in MEASURE[part](settings, overrides, results[part]):
                write_json(out_dir / BENCH_FILE, bench)
    finally:  # also when interrupted
        if any(results.values()):
            print(write_bench(out_dir, bench))
            print(f"results in {out_dir}")
    return out_dir


def check_settings(cfg: DictConfig, device: torch.device, overrides: list[str]) -> dict[str, Any]:
    """Validate the options; returns the settings of this benchmark, as plain data.

    Raises:
        InvalidInput: for an invalid value.
    """
    for option, group in GROUPS.items():
        value = cfg.device_settings[device.type][option] if cfg[option] is None else cfg[option]
        cfg[option] = choices(option, value, group, overrides)
    lists = ("parts", "values", "rendered_tasks", "runs_at_once")
    minimums = {"num_rounds": 1, "num_updates": 1, "num_acts": 1, "rendered_frames": 1}
    minimums |= {"replay_steps": NUM_REAL_STEPS, "training_frames": 2 * EPISODE_FRAMES}
    names = (*lists[:3], *GROUPS, "vary", "num_acts", "replay_steps", "rendered_frames")
    settings = device_options(cfg, device) | {name: plain(cfg[name]) for name in names}
    for name in lists:
        if not isinstance(settings[name], list):
            raise validation.InvalidInput(
                f"{name} must be a list, got {settings[name]}; write {name}=[{settings[name]}]"
            )
    for name, minimum in minimums.items():
        validation.integer(name, settings[name], minimum)
    for number in settings["runs_at_once"]:
        validation.integer("runs_at_once", number)
    for part in settings["parts"]:
        validation.choice("parts", part, MEASURE)
    for task in settings["rendered_tasks"]:
        require_task(task)
    validation.choice("training_preset", settings["training_preset"], group_options()["preset"])
    if bool(settings["vary"]) != bool(settings["values"]):
        raise validation.InvalidInput("vary and values must be set together, such as vary=batch_size values=[64,128]")
    for value in settings["values"]:
        check_overrides([f"{settings['vary']}={value}"], CONFIG_NAME)
    return settings


def _updates(settings: dict[str, Any], overrides: list[str], results: list[dict[str, Any]]) -> Iterator[None]:
    """Every head with every normalizer, runtime and value, one agent after the other."""
    varied = [{settings["vary"]: value} for value in settings["values"]] or [{}]
    sample = {name: settings[name] for name in ("num_updates", "num_acts")}
    for agent in settings["agents"]:
        rows, by_row = [], {}
        for head, normalizer, runtime, more in itertools.product(
            settings["heads"], settings["normalizers"], settings["runtimes"], varied
        ):
            columns = {"agent": agent, "head": head, "normalizer": normalizer, "runtime": runtime, **more}
            rows.append(build_row(CONFIG_NAME, columns, overrides, details=False))
        for row, number, measured in take_turns(rows, settings["num_rounds"], sample):
            if number == 0:
                by_row[row] = {**row.columns, **measured, "rounds": []}
                results.append(by_row[row])
            elif "error" in measured:
                by_row[row] |= measured
            else:
                by_row[row]["rounds"].append(measured)
            yield


def _rendering(settings: dict[str, Any], overrides: list[str], results: list[dict[str, Any]]) -> Iterator[None]:
    """Every task with every render setting."""
    del overrides
    for task in settings["rendered_tasks"]:
        print(f"rendering: {task}", file=sys.stderr, flush=True)
        with contextlib.ExitStack() as stack:
            envs = {
                name: stack.enter_context(contextlib.closing(make_env(task, 1, **flags)))
                for name, flags in RENDER_SETTINGS.items()
            }
            measured = measure_rendering(envs, settings["rendered_frames"])
        results += [{"task": task, "drawing": name, **values} for name, values in measured.items()]
        yield


def _training(settings: dict[str, Any], overrides: list[str], results: list[dict[str, Any]]) -> Iterator[None]:
    """Whole runs: of each agent the first and the last model alone, then several seeds of one in parallel."""
    models = list(itertools.product(settings["heads"], settings["normalizers"]))
    alone = [(agent, *model, 1) for agent in settings["agents"] for model in dict.fromkeys([models[0], models[-1]])]
    parallel = [(settings["agents"][0], *models[-1], number) for number in settings["runs_at_once"]]
    num_frames = settings["training_frames"] // 4 * 2  # half of a run, a multiple of the action repeat
    options = [
        "task=cartpole_balance",
        *(o for o in overrides if o.split("=", 1)[0] in ("task", "device", "num_threads")),
    ]
    options += ["video_every_frames=0", f"preset={settings['training_preset']}", f"eval_every_frames={num_frames}"]
    options += [f"num_train_frames={2 * num_frames}", f"num_eval_episodes={num_frames // EPISODE_FRAMES}"]
    for *names, number in [*alone, *parallel]:
        model = dict(zip(("agent", "head", "normalizer"), names, strict=True))
        row = {**model, "preset": settings["training_preset"], "runs_at_once": number}
        print("training: " + " ".join(map(str, row.values())), file=sys.stderr, flush=True)
        chosen = [*options, *(f"{group}={name}" for group, name in model.items())]
        with tempfile.TemporaryDirectory() as folder:
            results.append(row | train_in_parallel(Path(folder), chosen, number))
        yield


MEASURE = {"updates": _updates, "rendering": _rendering, "training": _training}


def train_in_parallel(folder: Path, options: list[str], number: int) -> dict[str, Any]:
    """Train `number` seeds at once, each on cores of its own (shared if there are too few), and measure their speed.

    Args:
        folder: of the runs.
        options: of `drq-sn train`.
        number: runs.

    Returns:
        Frames per second of each run, evaluations included, from the first evaluation after learning
        started to the last one; and the peak memory of the largest run, in bytes. Or the `error`.
    """
    cores = cpu.available_cores()
    share = max(1, len(cores) // number)
    runs: list[subprocess.Popen[bytes]] = []
    peaks = []
    try:
        for i in range(number):
            core_list = ",".join(str(cores[(i * share + k) % len(cores)]) for k in range(share))
            own = [f"seed={i + 1}", f"run_dir={folder / str(i)}", f"cores=[{core_list}]"]
            command = [sys.executable, "-m", "drq_sn.cli.train", *options, *own]
            with (folder / f"{i}.log").open("w") as log:
                runs.append(subprocess.Popen(command, stdout=log, stderr=log))
        for run in runs:
            _, status, usage = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
            peaks.append(usage.ru_maxrss * 1024)
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
    return {"frames_per_second": rates, "peak_memory_bytes": max(peaks)}


def _frames_per_second(path: Path) -> float:
    """From the second evaluation, after which updates are done, to the last."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    frames, seconds = ([float(row[field]) for row in rows] for field in ("frame", "wall_time_s"))
    return (frames[-1] - frames[1]) / (seconds[-1] - seconds[1])


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
def _bench(cfg: DictConfig) -> None:
    with exit_on_invalid_input():
        run_bench(cfg, list(HydraConfig.get().overrides.task))


def main() -> None:
    """Check the command line, then measure."""
    check_command_line(CONFIG_NAME, "a benchmark goes through agents, heads, normalizers and runtimes by itself")
    _bench()


if __name__ == "__main__":
    main()
