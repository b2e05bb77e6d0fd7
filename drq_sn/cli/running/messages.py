"""What a run prints when it starts and ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig

from drq_sn.cli.config.experiments import PUBLISHED
from drq_sn.envs.gl import Backend
from drq_sn.runs import provenance
from drq_sn.runs.progress import format_return
from drq_sn.types import Episode

RESULTS = ("eval.csv", "train.csv", "diagnostics.csv", "weights.pt", "best.pt", "video")  # named at the end of a run


def announce_start(
    cfg: DictConfig,
    run_dir: Path,
    device: torch.device,
    backend: Backend | None,
    repeats_episodes: bool,
    preset: str | None,
) -> None:
    """Print where the run trains, renders and keeps its files, with warnings; `backend` is None if nothing is drawn."""
    place = f"{cfg.task}: training on {provenance.device_name(device)}"
    print(f"{place}; rendering with {backend.name} on {backend.renderer}" if backend else place)
    print(f"results in {run_dir}")
    if not repeats_episodes:
        print(
            "warning: episodes of this environment cannot be seeded: results vary, and a resumed run starts a new "
            "episode (docs/environments.md)",
            file=sys.stderr,
        )
    if backend and backend.is_software and device.type == "cuda":
        print("warning: frames are rendered in software although there is a GPU; see `drq-sn doctor`", file=sys.stderr)
    if backend and device.type == "cpu" and preset == PUBLISHED:
        print(
            "no GPU: the published setting takes days on a few cores; preset=laptop (make: PRESET=laptop) trains "
            "smaller images and networks in 30 to 60 minutes"
        )


def warn_of_no_update(cfg: DictConfig, num_steps: int) -> None:
    """Warn that a run of `num_steps` environment steps acts at random only."""
    print(
        f"warning: the run ends without an update: num_random_steps={cfg.num_random_steps} and "
        f"update_every_steps={cfg.update_every_steps} leave none in its {num_steps} steps",
        file=sys.stderr,
    )


def announce_end(cfg: DictConfig, run_dir: Path, episodes: Sequence[Episode]) -> None:
    """Print the final return, that of `episodes`, where the files are, and the next commands."""
    place, files = shlex.quote(str(run_dir)), [name for name in RESULTS if (run_dir / name).exists()]
    returns = format_return([episode.episode_return for episode in episodes])
    print(f"{cfg.task}: finished at frame {cfg.num_train_frames}: {returns}")
    print(f"results in {run_dir}: {', '.join(files)}")
    print(f"next: drq-sn evaluate run={place} video=true, drq-sn report runs={place}, tensorboard --logdir {place}")
