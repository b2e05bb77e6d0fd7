"""`drq-sn fit-replay run=DIR normalizers=[none,spectral] depths=[1,3]`: training on a saved replay."""

from __future__ import annotations

import contextlib
import copy
import csv
import hashlib
import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from drq_sn import validation
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.cli.config.build import build_replay
from drq_sn.cli.config.command_line import run_composed
from drq_sn.cli.config.overrides import compose_config
from drq_sn.cli.config.ranges import MOST_STATES, Check, at_least_0, check_ranges, run_directory, seed
from drq_sn.cli.config.saved import build_saved_agent, build_saved_env, load_config
from drq_sn.cli.config.suitability import require_actor
from drq_sn.cli.running.checkpointing import seed_everything
from drq_sn.cli.running.exit_codes import run_command
from drq_sn.cli.running.run_dir import make_folder
from drq_sn.cli.workload import check_choices, to_list
from drq_sn.envs.wrappers import PixelStack
from drq_sn.report import depth_figure
from drq_sn.report.table_formats import format_csv
from drq_sn.runs import provenance
from drq_sn.runs.checkpoints import CheckpointStore, refuse_foreign_state
from drq_sn.runs.files import write_atomically, write_json
from drq_sn.training import cpu
from drq_sn.training.fit_replay import fit as fit_agent
from drq_sn.training.replay import UniformReplay

CONFIG_NAME = "fit_replay"
DEPTH_OPTIONS = ("num_blocks", "num_hidden_layers")
SETTINGS, PARTS = "settings.json", "fits"
SEED_STRIDE = 1_000_000  # between the batch seeds of two seeds; the largest number of updates
RANGES: dict[str, Check] = {
    "run": run_directory,
    "out_dir": validation.path,
    **dict.fromkeys(("num_updates", "log_every_updates"), partial(validation.integer, maximum=SEED_STRIDE)),
    "num_states": partial(validation.integer, maximum=MOST_STATES),
}


class Fit(NamedTuple):
    """One agent of a study."""

    normalizer: str
    depth: int
    seed: int

    @property
    def file(self) -> str:
        """Name of the file with its rows."""
        return f"{self.normalizer}_depth_{self.depth}_seed_{self.seed}.csv"


def run_study(cfg: DictConfig) -> Path:
    """Fit every normalizer at every depth from every seed, and write tables and figures; existing fits are kept.

    Returns:
        The directory of the results.

    Raises:
        InvalidInput: before anything is written, if `cfg` is invalid.
    """
    validation.extra_installed("report", ("matplotlib",))
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores)
    _check_options(cfg)
    run_dir = Path(str(cfg.run))
    run_cfg = load_config(run_dir, cfg.trusted)
    fits = [Fit(*values) for values in itertools.product(cfg.normalizers, cfg.depths, cfg.seeds)]
    configs = {(fit.normalizer, fit.depth): _fit_config(run_cfg, fit) for fit in fits}
    with contextlib.closing(build_saved_env(run_dir, run_cfg, seed=0)) as env:
        for (_, depth), config in configs.items():  # fail now if one cannot be built
            try:
                with torch.device("meta"):
                    require_actor(build_saved_agent(run_dir, config, env, torch.device("meta")))
            except validation.InvalidInput as error:
                raise validation.InvalidInput(f"{error}, with depth {depth}") from None
        replay, replay_sha256 = _load_replay(run_dir, run_cfg, env, device)
        out_dir = _prepare_directory(cfg, replay_sha256, device)
        in_order = sorted(fits, key=lambda fit: fit.seed)
        for fit in track(in_order, "fits", console=Console(stderr=True), transient=True):
            path, config = out_dir / PARTS / fit.file, configs[fit.normalizer, fit.depth]
            if not path.exists():
                seed_everything(fit.seed)
                agent = require_actor(build_saved_agent(run_dir, config, env, device))
                write_atomically(path, format_csv(_fit_rows(agent, replay, cfg, config, fit)))
    rows = [
        row for path in sorted((out_dir / PARTS).glob("*.csv")) for row in csv.DictReader(path.read_text().splitlines())
    ]
    print(depth_figure.write(out_dir, rows))
    print(f"results in {out_dir}")
    return out_dir


def _fit_rows(
    agent: ActorCriticAgent, replay: UniformReplay, cfg: DictConfig, config: DictConfig, fit: Fit
) -> list[dict[str, Any]]:
    """Rows of one fit; the batches depend only on its seed."""
    rows = fit_agent(
        agent,
        lambda update: replay.peek(config.batch_size, fit.seed * SEED_STRIDE + update),
        replay.peek(cfg.num_states, seed=0),
        cfg.num_updates,
        config.update_every_steps,
        cfg.log_every_updates,
    )
    return [{"normalizer": fit.normalizer, "depth": fit.depth, "seed": fit.seed} | row for row in rows]


def _check_options(cfg: DictConfig) -> None:
    """Check every option of the study; lists lose duplicates, and single values become lists."""
    check_ranges(cfg, RANGES)
    check_choices(cfg, {"normalizers": "normalizer"})
    for name, check in {"depths": at_least_0, "seeds": seed}.items():
        cfg[name] = to_list(cfg[name])
        validation.integer(f"number of {name}", len(cfg[name]))
        for value in cfg[name]:
            check(name, value)


def _fit_config(run_cfg: DictConfig, fit: Fit) -> DictConfig:
    """The run's configuration with the normalizer and the depth of the Q heads of `fit`."""
    config = copy.deepcopy(run_cfg)
    config.normalizer = compose_config(f"normalizer/{fit.normalizer}").normalizer
    critic = config.head.get("critic")
    options = [option for option in DEPTH_OPTIONS if isinstance(critic, DictConfig) and option in critic]
    if not options:
        head = config.head.get("_target_")
        raise validation.InvalidInput(f"run: its head {head} has no depth (none of {DEPTH_OPTIONS})")
    config.head.critic[options[0]] = fit.depth
    return config


def _load_replay(run_dir: Path, cfg: DictConfig, env: PixelStack, device: torch.device) -> tuple[UniformReplay, str]:
    """The replay of the run's newest checkpoint, and a digest of its contents."""
    store = CheckpointStore(run_dir)
    checkpoint = store.newest()
    if checkpoint is None:
        raise validation.InvalidInput(
            f"{run_dir} has no checkpoint; use an unfinished run, or one trained with keep_checkpoint=true"
        )
    replay = build_replay(cfg, env, device)
    with refuse_foreign_state(store.folder):
        replay.restore(checkpoint.state["replay"], store.replay_parts(checkpoint.parts))
    validation.integer("number of transitions in the replay", replay.num_transitions)
    digest = hashlib.sha256("".join(store.part_digests(checkpoint.parts)).encode()).hexdigest()
    return replay, digest


def _prepare_directory(cfg: DictConfig, replay_sha256: str, device: torch.device) -> Path:
    """Create `cfg.out_dir`, or check that it has an earlier part of the same study."""
    out_dir = Path(cfg.out_dir)
    settings = {name: cfg[name] for name in ("num_updates", "log_every_updates", "num_states")}
    settings |= {"replay_sha256": replay_sha256, "device": provenance.device_name(device)}
    if (out_dir / SETTINGS).is_file():
        try:
            earlier = json.loads((out_dir / SETTINGS).read_text())["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise validation.InvalidInput(
                f"{out_dir / SETTINGS} is damaged ({validation.first_line(error)}); use another out_dir"
            ) from None
        if earlier != settings:
            raise validation.InvalidInput(
                f"{out_dir} holds a study with {earlier}; use the same settings, or another out_dir"
            )
    elif out_dir.is_dir() and any(out_dir.iterdir()):
        raise validation.InvalidInput(f"{out_dir} holds other files; use a new directory as out_dir")
    make_folder(out_dir / PARTS, "out_dir")
    write_json(out_dir / SETTINGS, {"settings": settings, "machine": provenance.describe(device)})
    return out_dir


def main() -> None:
    """Check the command line, then run the study."""
    run_composed(CONFIG_NAME, run_study, "one study has all of normalizers=[...] and depths=[...]")


if __name__ == "__main__":
    run_command(main)
