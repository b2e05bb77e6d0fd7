"""The runs of a sweep: every combination of its overrides, or the part of an experiment that they select."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.cli.config import ranges
from drq_sn.cli.config.build import resolve
from drq_sn.cli.config.overrides import (
    alternatives,
    compose_config,
    group_options,
    initialized,
    not_composed,
    own_options,
    parse_override,
    parse_value,
)
from drq_sn.cli.config.saved import read_config, saved_length
from drq_sn.cli.launching.job import CPU_OPTIONS
from drq_sn.cli.running.run_dir import require_same
from drq_sn.envs import require_task
from drq_sn.envs.factory import SUITE
from drq_sn.report.types import Experiment
from drq_sn.runs.checkpoints import FOLDER
from drq_sn.runs.reader import CONFIG, read_record
from drq_sn.runs.status import Status

SEED, SUFFIX = "seed", "run_suffix"
Axes = dict[str, list[str]]
"""Option -> the `option=value` overrides that runs take in turn."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    overrides: tuple[str, ...]  # command-line arguments of `drq_sn.cli.train`
    run_dir: Path  # its directory
    num_train_frames: int  # its length
    sets_cpus: tuple[str, ...] = ()  # see `Job`
    is_over: bool = field(default=False, compare=False)  # whether nothing is left to do for it

    @property
    def name(self) -> str:
        """The last parts of its directory, `cup_catch/drqv2_mlp2_none/seed_1`."""
        return "/".join(self.run_dir.parts[-3:])


def plan(overrides: Sequence[str], experiment: Experiment | None = None) -> list[PlannedRun]:
    """Every run that `overrides` select.

    Args:
        overrides: of train.yaml, some with several values; the last of repeated ones counts.
        experiment: supplies what the overrides leave open.

    Raises:
        InvalidInput: if two runs share a directory, a directory holds a run with other settings or a shorter one that
            has finished, a task is unknown, or the overrides select something that is not part of the experiment.
    """
    with initialized():
        given = {override.key_or_group: list(alternatives(override)) for override in map(parse_override, overrides)}
        runs = [run for axes in _parts(given, experiment) for run in _runs(axes)]
        seen: dict[Path, PlannedRun] = {}
        for run in runs:
            other = seen.setdefault(run.run_dir.resolve(), run)
            if other is not run:
                raise validation.InvalidInput(f"run_dir={run.run_dir}: {_describe_clash(other, run)}")
    return runs


def compose_run(overrides: Sequence[str]) -> DictConfig:
    """The configuration of one run, unresolved, as `drq_sn.cli.train` composes it."""
    cfg = compose_config("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # run_dir contains the names of choices
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def split_overrides(overrides: Sequence[str], options: Iterable[str]) -> tuple[list[str], list[str]]:
    """Separate the overrides of `options`, which are the sweep's own, from those of its runs.

    Raises:
        InvalidInput: for an argument that is not an override.
    """
    names, sweep, runs = set(options), list[str](), list[str]()
    for override in map(parse_override, overrides):
        (sweep if override.key_or_group.split(".")[0] in names else runs).append(override.input_line or "")
    return sweep, runs


def _describe_clash(first: PlannedRun, second: PlannedRun) -> str:
    """Why two runs share a directory, and what would separate them."""
    only_first = sorted(set(first.overrides) - set(second.overrides))
    only_second = sorted(set(second.overrides) - set(first.overrides))
    if not only_second:
        return "requested twice with the same overrides"
    requested = f"requested with {' '.join(only_first)} and with {' '.join(only_second)}"
    option = only_second[0].split("=", 1)[0].lstrip("+")
    value = f"${{hydra:runtime.choices.{option}}}" if option in group_options() else f"${{{option}}}"
    if any(override.startswith("run_dir=") for override in first.overrides):
        return f"{requested}; set a run_dir that differs, such as 'run_dir=DIR/{value}'"
    return f"{requested}; set a run_suffix that differs, such as 'run_suffix=_{option}{value}'"


def _parts(given: Axes, experiment: Experiment | None) -> Iterator[Axes]:
    """The grids of the sweep: one per variant of the experiment, or a single one."""
    if experiment is None:
        yield given
        return
    defaults = {
        "task": [f"task={task}" for task in experiment.tasks],
        SEED: [f"{SEED}={seed}" for seed in experiment.seeds],
    }
    if "preset" not in given or experiment.has_preset:  # a preset sets a length of its own
        defaults["num_train_frames"] = [f"num_train_frames={experiment.num_train_frames}"]
    more = given.get(SUFFIX) if all(SUFFIX in variant for variant in experiment.variants) else None
    if more:  # is appended to the variants' own
        given = {key: values for key, values in given.items() if key != SUFFIX}
    for variant in _select_variants(given, experiment):
        axes = defaults | given | {key: [f"{key}={value}"] for key, value in variant.items()}
        if more:
            axes[SUFFIX] = [axes[SUFFIX][0] + override.partition("=")[2] for override in more]
        yield axes


def _select_variants(given: Axes, experiment: Experiment) -> list[dict[str, str]]:
    """The variants of the experiment, agent included, that have the given values."""
    variants = [{"agent": experiment.agent, **variant} for variant in experiment.variants]
    for key in (key for key in variants[0] if all(key in variant for variant in variants)):
        names = list(dict.fromkeys(variant[key] for variant in variants))
        for override in given.get(key, []):
            if _value(override) not in map(parse_value, names):
                raise validation.InvalidInput(
                    f"experiment={experiment.name} only has {key} {' and '.join(names)}, got {override}"
                )
    selected = [
        variant
        for variant in variants
        if all(key not in given or parse_value(value) in map(_value, given[key]) for key, value in variant.items())
    ]
    if not selected:
        requested = " ".join(",".join(given[key]) for key in variants[0] if key in given)
        described = "; ".join(" ".join(f"{k}={v}" for k, v in variant.items()) for variant in variants)
        raise validation.InvalidInput(f"experiment={experiment.name} has no run with {requested}, only {described}")
    return selected


def _runs(axes: Axes) -> Iterator[PlannedRun]:
    """One run per combination; runs that differ only in their seed are composed once."""
    seeds = [ranges.seed(SEED, _value(override)) for override in axes.get(SEED, [])]
    for overrides in itertools.product(*(values for key, values in axes.items() if key != SEED)):
        try:
            cfg = compose_run(overrides)
        except HydraException as error:
            raise not_composed(error, " ".join(overrides)) from None
        resolve(copy.deepcopy(cfg))  # fail now if an interpolation names no option
        if cfg.env._target_ == SUITE:
            _require_task(cfg.task)
        for seed in seeds or [cfg.seed]:
            cfg.seed = seed
            yield _planned(cfg, (*overrides, f"{SEED}={seed}"))


_require_task = functools.cache(require_task)


def _value(override: str) -> Any:
    return parse_value(override.partition("=")[2])


def _planned(cfg: DictConfig, overrides: tuple[str, ...]) -> PlannedRun:
    ranges.check_ranges(cfg, ranges.TRAIN)
    run_dir = Path(str(cfg.run_dir or ""))
    num_train_frames = validation.integer("num_train_frames", cfg.num_train_frames)
    status = Status.WAITING
    if (run_dir / CONFIG).is_file() and not cfg.fresh:
        resolved = copy.deepcopy(cfg)
        OmegaConf.resolve(resolved)
        remedy = "set a run_suffix, or move that directory away"
        require_same(run_dir, read_config(run_dir), own_options(resolved), remedy)
        status = Status(read_record(run_dir).get("status"))
        if status is Status.FINISHED and (frame := saved_length(run_dir)) < num_train_frames:
            if not (run_dir / FOLDER).is_dir():
                raise validation.InvalidInput(
                    f"the run in {run_dir} already finished at frame {frame} and kept no checkpoint "
                    f"(keep_checkpoint=true); set a run_suffix for runs of {num_train_frames} frames"
                )
            status = Status.WAITING
    sets_cpus = tuple(name for name in CPU_OPTIONS if cfg[name] is not None)
    return PlannedRun(overrides, run_dir, num_train_frames, sets_cpus, status.is_final)
