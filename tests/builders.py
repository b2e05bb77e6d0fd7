"""Builders and runners shared by test modules; fixtures are in `tests/conftest.py`.

Commands: `invoke` (in this process), `run_module` (in a process of its own), `kill_children`, `raising`.
Tensors: `default_dtype`.
Configurations and batches: `TINY`, `compose_config`, `run_config`, `resolved_options`, `random_batch`, `make_episodes`.
Replays: `make_replay`, `play_episodes`, `stored_transitions`.
Run directories without training: `RECORD`, `write_config`, `write_run`, `write_progress`, `Payload`.
Runs in memory, for reports: `make_log`, `make_run`.
Reading results: `read_csv`, `training_result`, `svg_texts`.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import dm_env
import numpy as np
import torch
from absl import logging as absl_logging
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.overrides import INTERNAL_GROUPS, initialized
from drq_sn.cli.running.exit_codes import exit_on_expected_errors
from drq_sn.report.types import Preset, Run, Variant
from drq_sn.runs.reader import EVAL, Log
from drq_sn.runs.status import Status
from drq_sn.training.replay import UniformReplay
from drq_sn.types import Batch, Episode

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    "task=synthetic_point",
    "num_train_frames=400",
    "eval_every_frames=200",
    "num_eval_episodes=2",
    "num_eval_processes=1",
    "diagnose_states=16",
    "num_random_steps=30",
    "action_repeat=4",
    "batch_size=8",
    "head=mlp2",
    "normalizer=none",
    "head.width=16",
    "env.image_size=24",
    "agent.num_filters=4",
    "video_every_frames=0",
    "device=cpu",
]  # a run of less than a second: 100 steps of 4 frames in 4 episodes, 35 updates

PARAMETER_MEGABYTES = {"mlp2": 45.842, "mlp4": 87.826, "modern2": 108.839, "modern4": 243.220}
"""Parameters of DrQ with one action dimension, by head, as derived from Table 3 of the paper; MB of 10^6 bytes."""


# commands


def invoke(main, *arguments):
    """Call `main()` of a command in this process, as if `arguments` were its command line, without handling signals.

    Returns:
        exit code, output and errors, as `run_module` does.
    """
    output, errors, code, argv = io.StringIO(), io.StringIO(), 0, sys.argv
    # Hydra closes all logging handlers, and absl's would close pytest's stderr
    absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
    sys.argv = [main.__module__, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), exit_on_expected_errors():
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = argv
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def run_module(module, *arguments, cwd=None, env=None):
    """`python -m module arguments` on one thread, to its end; importing torch takes seconds, so prefer `invoke`."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
    )


def raising(error):
    """A function of any arguments that raises `error`."""

    def function(*arguments, **options):
        raise error

    return function


def kill_children(name):
    """SIGKILL every child of this process whose program has `name` in its own; at least one."""
    stats = (path.read_text() for path in Path("/proc").glob("[0-9]*/stat"))
    processes = [re.match(r"(\d+) \((.*)\) \S (\d+)", stat).groups() for stat in stats]
    children = [int(pid) for pid, program, parent in processes if int(parent) == os.getpid() and name in program]
    assert children, f"no child process {name}"
    for pid in children:
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def default_dtype(dtype):
    """Tensors are of `dtype` by default while the `with` block lasts."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# configurations and batches


def compose_config(*overrides, config="train", return_hydra_config=False):
    """A configuration as Hydra composes it, interpolations unresolved.

    One composition serves all values of plain options, which are set afterwards, as Hydra does: composing takes time.
    Of several values of one option the last one holds, so that a test may change what `TINY` sets.
    """
    last = {override.split("=")[0]: override for override in overrides}
    plain = {name: override for name, override in last.items() if name[0] not in "+~" and name not in _groups()}
    cfg = copy.deepcopy(_composed(config, tuple(o for n, o in last.items() if n not in plain), return_hydra_config))
    for name, override in plain.items():
        OmegaConf.update(cfg, name, _parsed(override).value())
    return cfg


@functools.cache
def _groups():
    return {path.name for path in config_dir().iterdir() if path.is_dir()}


@functools.cache
def _parsed(override):
    return OverridesParser.create().parse_override(override)


@functools.cache
def _composed(config, overrides, return_hydra_config):
    with initialized():
        return compose(config, list(overrides), return_hydra_config=return_hydra_config)


def run_config(run_dir, *overrides):
    """The configuration of a run in `run_dir`, as Hydra passes it to a command."""
    cfg = compose_config(*overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    cfg.run_dir = str(run_dir)
    return cfg


def resolved_options(*overrides, task="cheetah_run"):
    """Dotted name of every option -> its value; one composition serves all tasks."""
    cfg = compose_config(*overrides)
    cfg.task = task  # as task=... would: all that depends on it is interpolated
    cfg.run_dir = "runs"  # its default needs Hydra's runtime
    return _flatten(OmegaConf.to_container(cfg, resolve=True))


def _flatten(tree, prefix=""):
    leaves = {}
    for key, value in tree.items():
        leaves |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def random_batch(size=8, image_size=24, action_dim=2, seed=0):
    """Random transitions of three stacked frames."""
    generator = torch.Generator().manual_seed(seed)
    shape = (size, 9, image_size, image_size)
    return Batch(
        obs=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        action=torch.rand(size, action_dim, generator=generator) * 2 - 1,
        reward=torch.rand(size, generator=generator),
        discount=torch.full((size,), 0.97),
        next_obs=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
    )


def make_episodes(*returns):
    """Evaluation episodes of one step with these returns."""
    return [Episode(np.zeros((9, 24, 24), np.uint8), [episode_return]) for episode_return in returns]


# replays

FRAME_SIZE, STACK, GAMMA = 2, 3, 0.9


def make_replay(capacity=50, n_step=3, batch_size=4, **options):
    """A replay of three stacked frames of 2x2 pixels and two action dimensions."""
    obs_shape = (3 * STACK, FRAME_SIZE, FRAME_SIZE)
    options = {"capacity_steps": capacity, "n_step": n_step, "batch_size": batch_size, "gamma": GAMMA, **options}
    return UniformReplay(obs_shape, 2, **options)


def play_episodes(replay, lengths, terminal=()):
    """Feed episodes of given lengths (steps); frame k of the whole history is filled with k % 256.

    Returns:
        the history: a list of episodes, each a list of (frame number, action, reward, discount).
    """
    history, number = [], 0
    for index, length in enumerate(lengths):
        episode = []
        for t in range(length + 1):
            kind = dm_env.StepType.FIRST if t == 0 else dm_env.StepType.LAST if t == length else dm_env.StepType.MID
            stacked = [max(number - back, number - t) % 256 for back in (2, 1, 0)]
            frame = np.ones((1, FRAME_SIZE, FRAME_SIZE), np.uint8)
            observation = np.repeat(np.array(stacked, np.uint8), 3)[:, None, None] * frame
            action = None if t == 0 else np.array([number, -number], np.float32)
            reward = None if t == 0 else float(number)
            discount = None if t == 0 else (0.0 if t == length and index in terminal else 1.0)
            replay.add(dm_env.TimeStep(kind, reward, discount, observation), action)
            episode.append((number, action, reward, discount))
            number += 1
        history.append(episode)
    return history


def stored_transitions(replay):
    """Every transition that the replay can draw: start slot -> frames, action, reward, discount, next frames."""
    starts = torch.tensor(
        [int(replay._starts[i % replay.capacity]) for i in range(replay._first_start, replay._end_start)]
    )
    if len(starts) == 0:
        return {}
    batch = replay.gather(starts)
    return {
        int(start): (
            batch.obs[i, ::3, 0, 0].tolist(),
            batch.action[i].tolist(),
            float(batch.reward[i]),
            float(batch.discount[i]),
            batch.next_obs[i, ::3, 0, 0].tolist(),
        )
        for i, start in enumerate(starts)
    }


# run directories without training

RECORD = {
    "versions": {"mujoco": "3.11.0", "dm_control": "1.0.44", "torch": "2.13.0"},
    "gl": {"backend": "egl", "renderer": "llvmpipe"},
    "device": "a CPU",
    "git_commit": "0123456789abcdef",
    "first_frame_sha256": "aaaabbbbcccc",
}


def write_config(folder, overrides, run_dir="runs/task/agent_head_norm/seed_1", without=(), replaced=None):
    """Write `config.yaml` of a run with these overrides to `folder`, which is returned.

    Args:
        folder: the run directory.
        overrides: of the command line.
        run_dir: value of the option in the file.
        without: options that an older version did not have.
        replaced: top-level options -> their values in the file.
    """
    free = [override for override in overrides if not override.startswith(("task=", "seed="))]
    cfg = compose_config(*free)  # task and seed are set afterwards: composing takes time
    with open_dict(cfg):
        for override in set(overrides) - set(free):
            name, value = override.split("=")
            cfg[name] = int(value) if name == "seed" else value
        cfg.run_dir = run_dir
        OmegaConf.resolve(cfg)
        for name, value in (replaced or {}).items():
            cfg[name] = value
        for name in without:
            parent, _, key = name.rpartition(".")
            del (OmegaConf.select(cfg, parent) if parent else cfg)[key]
    kept = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in INTERNAL_GROUPS])
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(kept, folder / "config.yaml")
    return folder


def write_run(folder, overrides, evaluations, status="finished", record=None, num_episodes=10):
    """Write a run: configuration, `run.json`, evaluations by frame, and a row of training per evaluation."""
    write_config(folder, overrides)
    (folder / "run.json").write_text(json.dumps({"status": status, **RECORD, **(record or {})}))
    lines = [f"{frame},{value},{num_episodes},{frame / 10}" for frame, value in evaluations.items()]
    (folder / "eval.csv").write_text("\n".join(["frame,episode_return_mean,num_episodes,wall_time_s", *lines, ""]))
    lines = [f"{frame},{frame // 2},20.0,{frame / 10}" for frame in evaluations]
    (folder / "train.csv").write_text("\n".join(["frame,num_updates,frames_per_second,wall_time_s", *lines, ""]))
    return folder


def write_progress(path, status, frames=(), returns=(), speeds=()):
    """Write the status of a run, evaluations and the speed of training episodes of 100 frames; return `path`."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("task: t\nseed: 1\n")
    (path / "run.json").write_text(json.dumps({"status": status}))
    (path / "eval.csv").write_text(
        "frame,episode_return_mean\n" + "".join(f"{f},{r}\n" for f, r in zip(frames, returns, strict=True))
    )
    (path / "train.csv").write_text(
        "frame,frames_per_second\n" + "".join(f"{100 * i},{s}\n" for i, s in enumerate(speeds, 1))
    )
    return path


# runs in memory, for reports

MLP2 = Variant("drq", "mlp2", "none")
MODERN_SN = Variant("drq", "modern4", "spectral")
DASH = "\N{EN DASH}"


def make_log(*rows, name="x.csv", **columns):
    """A CSV file from rows, or from columns of one length; `frame` is one of the columns."""
    rows = rows or [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    names = dict.fromkeys(name for row in rows for name in row)
    cells = {name: [str(row.get(name, "")) for row in rows] for name in names}
    return Log(Path(name), [float(row["frame"]) for row in rows], cells, range(2, len(rows) + 2))


def make_run(evaluations=(), task="cheetah_run", variant=MLP2, seed=1, status="finished", departures=(), **more):
    """A run of a report with evaluations by frame.

    Args:
        more: `directory`, `record`, `options`, `preset`, `num_episodes`; logs `eval`, `train` and `diagnostics`.
    """
    rows = [
        {"frame": f, "episode_return_mean": v, "num_episodes": more.get("num_episodes", 10), "wall_time_s": f / 10}
        for f, v in dict(evaluations).items()
    ]
    logs = {EVAL: more.get("eval", make_log(*rows, name=EVAL))}
    logs |= {f"{name}.csv": more.get(name, Log(Path(f"{name}.csv"))) for name in ("train", "diagnostics")}
    directory, record = Path(more.get("directory", f"runs/{task}/x/seed_{seed}")), RECORD | more.get("record", {})
    preset, options = more.get("preset", Preset()), more.get("options", {})
    return Run(directory, task, seed, Status(status), variant, tuple(departures), preset, record, options, logs)


class Payload:
    """Creates a directory when it is unpickled."""

    def __init__(self, directory):
        self.directory = str(directory)

    def __reduce__(self):
        return os.mkdir, (self.directory,)


# reading results

CLOCKS = {"wall_time_s", "frames_per_second", "seconds"}


def read_csv(path, without=()):
    """Rows of a CSV file as dictionaries; `without=CLOCKS` leaves out what no two runs share."""
    rows = csv.DictReader(path.read_text().splitlines())
    return [{name: cell for name, cell in row.items() if name not in without} for row in rows]


def training_result(run_dir):
    """What must not depend on interruptions: the logs without clocks, and every weight that was kept."""
    logs = [read_csv(run_dir / name, without=CLOCKS) for name in ("train.csv", "eval.csv", "diagnostics.csv")]
    files = [torch.load(run_dir / name) for name in ("weights.pt", "best.pt")]
    weights = [{name: value.numpy().tobytes() for name, value in file["networks"].items()} for file in files]
    return *logs, [(file["frame"], file["episode_return"]) for file in files], weights


def svg_texts(svg):
    """What matplotlib wrote as text into an SVG; each is a comment above its outlines."""
    return re.findall(r"<!-- (.*?) -->", svg.decode())


def markdown_headings(page):
    """The names under which GitHub links to the headings of a page."""
    headings = (line.lstrip("# ").lower() for line in page.splitlines() if line[:1] == "#")
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
