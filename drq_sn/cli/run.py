"""One run from start to end: its folder, its record, its training."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from drq_sn import checks, machine
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.checkpoint import save_weights, write_atomically, write_json
from drq_sn.cli.build import CONFIG, build_agent, build_env, build_loop, build_replay
from drq_sn.cli.overrides import INTERNAL_GROUPS
from drq_sn.envs import require_task
from drq_sn.envs.gl import Backend, select_backend
from drq_sn.loop import evaluate
from drq_sn.metrics import RunLogger
from drq_sn.video import VideoRecorder, playback_rate

RECORD = "run.json"
LARGEST_SEED = 2**32 - 1  # numpy's


def run(cfg: DictConfig) -> None:
    """Train as `cfg` says and leave everything in `cfg.run_dir`.

    Raises:
        InvalidInput: before anything is written, if `cfg` cannot be run.
    """
    require_task(cfg.task)
    OmegaConf.resolve(cfg)
    backend = select_backend()
    device = machine.select_device(cfg.device)
    if cfg.num_threads is not None:
        torch.set_num_threads(checks.integer("num_threads", cfg.num_threads))
    checks.real("seed", checks.integer("seed", cfg.seed, minimum=0), 0, LARGEST_SEED)
    seed_everything(cfg.seed)
    env = build_env(cfg, cfg.seed)
    loop = build_loop(cfg)
    agent, replay = build_agent(cfg, env, device), build_replay(cfg, env, device)
    checks.integer("num_eval_episodes", cfg.num_eval_episodes)
    checks.integer("video_every_frames", cfg.video_every_frames, minimum=0)

    run_dir = make_run_dir(Path(str(cfg.run_dir or "")), checks.boolean("fresh", cfg.fresh))
    _announce(cfg, run_dir, device, backend)
    write_atomically(run_dir / CONFIG, OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, _own_keys(cfg))).encode())
    with _record(run_dir, _description(cfg, device, backend)):
        logger = RunLogger(run_dir, cfg.num_train_frames, agent.metric_names, tuple(agent.sigmas()), cfg.num_eval_episodes)
        with contextlib.closing(logger), contextlib.closing(env):
            loop.run(env, agent, replay, logger, _evaluation(cfg, agent, run_dir))
        save_weights(run_dir, agent.networks.state_dict(), cfg.num_train_frames)


def _own_keys(cfg: DictConfig) -> list[str]:
    """Everything but the tables of tuned values, which resolution has put where they act."""
    return [str(key) for key in cfg if key not in INTERNAL_GROUPS]


def seed_everything(seed: int) -> None:
    """Seed the generators that agents and libraries draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_run_dir(path: Path, fresh: bool) -> Path:
    """Create the folder of a new run.

    Raises:
        InvalidInput: if it cannot be written, or holds anything already and `fresh` is not set. With
            `fresh` the older folder is moved to `{name}.1`, `{name}.2`, ...
    """
    if path == Path():
        raise checks.InvalidInput("run_dir is empty or the current folder; accepted is a folder of the run's own")
    if path.is_dir() and any(path.iterdir()):
        if not fresh:
            raise checks.InvalidInput(f"run_dir={path}: holds files already; fresh=true moves it aside and starts over")
        number = next(n for n in range(1, sys.maxsize) if not path.with_name(f"{path.name}.{n}").exists())
        path.rename(path.with_name(f"{path.name}.{number}"))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.InvalidInput(
            f"run_dir={path}: cannot be made ({error.strerror}); accepted is a folder that can be written"
        ) from None
    if not os.access(path, os.W_OK):
        raise checks.InvalidInput(f"run_dir={path}: is not writable; accepted is a folder that can be written")
    return path


def _evaluation(cfg: DictConfig, agent: ActorCriticAgent, run_dir: Path) -> Callable[[int], list[float]]:
    """Evaluations on environments of their own, seeded by run and frame: they leave nothing behind."""

    def at_frame(frame: int) -> list[float]:
        seed = int(np.random.SeedSequence([cfg.seed, frame]).generate_state(1)[0])
        with contextlib.closing(build_env(cfg, seed)) as env:
            if cfg.video_every_frames == 0 or frame % cfg.video_every_frames:
                return evaluate(env, agent, cfg.num_eval_episodes)
            with VideoRecorder(run_dir / "video" / f"{frame}.mp4", playback_rate(env)) as record:
                return evaluate(env, agent, cfg.num_eval_episodes, record)

    return at_frame


def _description(cfg: DictConfig, device: torch.device, backend: Backend) -> dict[str, Any]:
    with contextlib.closing(build_env(cfg, seed=0)) as env:
        first_frame = machine.frame_hash(env)
    return {
        "task": cfg.task,
        "seed": cfg.seed,
        "versions": machine.versions(),
        "gl": {"backend": backend.name, "renderer": backend.renderer},
        "device": machine.device_name(device),
        "git_commit": machine.git_commit(),
        "first_frame_sha256": first_frame,
    }


@contextlib.contextmanager
def _record(run_dir: Path, description: dict[str, Any]) -> Iterator[None]:
    """Keep `run.json` true: running, then finished, interrupted, or failed with the reason."""

    def write(status: str, **more: str) -> None:
        write_json(run_dir / RECORD, {"status": status, **description, **more})

    description["started"] = _now()
    write("running")
    try:
        yield
    except KeyboardInterrupt:
        write("interrupted", ended=_now())
        raise
    except BaseException:
        write("failed", ended=_now(), error=traceback.format_exc())
        raise
    write("finished", ended=_now())


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _announce(cfg: DictConfig, run_dir: Path, device: torch.device, backend: Backend) -> None:
    print(f"{cfg.task}: training on {machine.device_name(device)}; rendering by {backend.name} on {backend.renderer}")
    print(f"results in {run_dir}")
    if backend.is_software and device.type == "cuda":
        print("warning: frames are drawn in software although there is a GPU; `make doctor` says more", file=sys.stderr)
    if device.type == "cpu" and not cfg.run_suffix:
        print(
            "no GPU: the published setting takes days on a few cores; "
            "PRESET=laptop (preset=laptop) trains smaller images and networks in half an hour to an hour"
        )
