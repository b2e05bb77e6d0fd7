"""Folders of runs as `make train` leaves them, written without training."""

from __future__ import annotations

import copy
import functools
import json

from hydra import compose
from omegaconf import OmegaConf, open_dict

from drq_sn.cli.config.overrides import INTERNAL_GROUPS, initialized

RECORD = {
    "versions": {"mujoco": "3.11.0", "dm_control": "1.0.44", "torch": "2.13.0"},
    "gl": {"backend": "egl", "renderer": "llvmpipe"},
    "device": "a CPU",
    "git_commit": "0123456789abcdef",
    "first_frame_sha256": "aaaabbbbcccc",
}


@functools.cache
def _composed(words):
    with initialized():
        return compose("train", list(words))


def published_options(words):
    """A composed configuration, interpolations as they are; composed once for the same words."""
    return copy.deepcopy(_composed(tuple(words)))


def write_config(folder, words, run_dir="runs/task/agent_head_norm/seed_1", without=(), replaced=None):
    """Write `config.yaml` of a run with these words to `folder`, which is returned.

    Args:
        folder: of the run.
        words: overrides of the command line.
        run_dir: what the configuration says about its folder.
        without: options that an older version did not have.
        replaced: top-level options -> what stands there instead.
    """
    free = [word for word in words if not word.startswith(("task=", "seed="))]
    cfg = published_options(free)  # task and seed are set afterwards: composing takes time
    with open_dict(cfg):
        for word in set(words) - set(free):
            name, value = word.split("=")
            cfg[name] = int(value) if name == "seed" else value
        cfg.run_dir = run_dir
        OmegaConf.resolve(cfg)
        for name, value in (replaced or {}).items():
            cfg[name] = value
        for name in without:
            parent, _, key = name.rpartition(".")
            del (OmegaConf.select(cfg, parent) if parent else cfg)[key]
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in INTERNAL_GROUPS])
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(own, folder / "config.yaml")
    return folder


def write_run(folder, words, evaluations, status="finished", record=None, num_episodes=10):
    """Write a whole run: configuration, `run.json`, evaluations by frame, and a row of training per evaluation."""
    write_config(folder, words)
    (folder / "run.json").write_text(json.dumps({"status": status, **RECORD, **(record or {})}))
    lines = [f"{frame},{value},{num_episodes},{frame / 10}" for frame, value in evaluations.items()]
    (folder / "eval.csv").write_text("\n".join(["frame,episode_return_mean,num_episodes,wall_time_s", *lines, ""]))
    lines = [f"{frame},{frame // 2},20.0,{frame / 10}" for frame in evaluations]
    (folder / "train.csv").write_text("\n".join(["frame,num_updates,frames_per_second,wall_time_s", *lines, ""]))
    return folder
