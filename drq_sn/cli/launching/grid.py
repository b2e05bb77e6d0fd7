"""Which runs a sweep is made of: every combination of its words, or the part of an experiment that they ask for."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.cli.config.build import CONFIG, read_config
from drq_sn.cli.config.experiments import Experiment
from drq_sn.cli.config.overrides import INTERNAL_GROUPS, alternatives, group_options, initialized
from drq_sn.cli.config.ranges import LARGEST_SEED
from drq_sn.cli.running.run_dir import require_same
from drq_sn.runs.progress import is_over

SEED = "seed"
Axes = dict[str, list[str]]
"""Option -> each `option=value` that runs take in turn."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that is asked for.

    Attributes:
        words: the command line of `drq_sn.cli.train`.
        run_dir: its folder.
        num_train_frames: its length.
    """

    words: tuple[str, ...]
    run_dir: Path
    num_train_frames: int

    @property
    def name(self) -> str:
        """The last parts of its folder, `cup_catch/drqv2_mlp2_none/seed_1`."""
        return "/".join(self.run_dir.parts[-3:])


def plan(words: Sequence[str], experiment: Experiment | None = None) -> list[PlannedRun]:
    """Every run that `words` stand for.

    Args:
        words: overrides of train.yaml, some with several values; of repeated ones the last counts.
        experiment: what is run where the words leave it open.

    Raises:
        InvalidInput: if two runs have one folder, a folder holds a run with other settings or a shorter one that
            has ended, or the words ask for what is no part of the experiment.
    """
    with initialized():
        given = {o.key_or_group: list(alternatives(o)) for o in OverridesParser.create().parse_overrides(list(words))}
        runs = [run for axes in _parts(given, experiment) for run in _runs(axes)]
        _require_own_folders(runs)
    return runs


def _require_own_folders(runs: Sequence[PlannedRun]) -> None:
    seen: dict[Path, PlannedRun] = {}
    for run in runs:
        other = seen.setdefault(run.run_dir, run)
        if other is not run:
            raise validation.InvalidInput(f"run_dir={run.run_dir}: {_clash(other, run)}")


def _clash(one: PlannedRun, other: PlannedRun) -> str:
    """Why two runs have one folder, and what tells them apart."""
    theirs, mine = sorted(set(one.words) - set(other.words)), sorted(set(other.words) - set(one.words))
    if not mine:
        return "asked for twice with the same overrides"
    asked = f"asked for with {' '.join(theirs)} and with {' '.join(mine)}"
    option = mine[0].split("=", 1)[0]
    if any(word.startswith("run_dir=") for word in one.words):
        return f"{asked}; set a run_dir that tells them apart, such as 'run_dir=DIR/${{{option}}}'"
    value = f"hydra:runtime.choices.{option}" if option in group_options() else option
    return f"{asked}; set a run_suffix that tells them apart, such as 'run_suffix=_{option}${{{value}}}'"


def _parts(given: Axes, experiment: Experiment | None) -> Iterator[Axes]:
    """The grids that make the sweep: one per variant of the experiment, or one in all."""
    if experiment is None:
        yield given
        return
    _require_part("agent", given, [experiment.agent], experiment)
    for key in experiment.variants[0]:
        _require_part(key, given, [variant[key] for variant in experiment.variants], experiment)
    chosen = [
        variant
        for variant in experiment.variants
        if all(key not in given or f"{key}={value}" in given[key] for key, value in variant.items())
    ]
    if not chosen:
        asked = " ".join(",".join(given[key]) for key in experiment.variants[0] if key in given)
        variants = "; ".join(" ".join(f"{k}={v}" for k, v in variant.items()) for variant in experiment.variants)
        raise validation.InvalidInput(
            f"experiment={experiment.name}: none of its runs has {asked}; its runs have {variants}"
        )
    for variant in chosen:
        yield _defaults(given, experiment) | given | {key: [f"{key}={value}"] for key, value in variant.items()}


def _defaults(given: Axes, experiment: Experiment) -> Axes:
    """What the experiment has where the words leave it open."""
    defaults = {
        "agent": [f"agent={experiment.agent}"],
        "task": [f"task={task}" for task in experiment.tasks],
        SEED: [f"{SEED}={seed}" for seed in experiment.seeds],
    }
    if "preset" not in given:  # which has a length of its own
        defaults["num_train_frames"] = [f"num_train_frames={experiment.num_train_frames}"]
    return defaults


def _require_part(key: str, given: Axes, valid: Iterable[str], experiment: Experiment) -> None:
    """Refuse what no run of the experiment has."""
    names = list(dict.fromkeys(valid))
    for word in given.get(key, []):
        if word.split("=", 1)[1] not in names:
            raise validation.InvalidInput(f"{word}: experiment={experiment.name} has {key}={', '.join(names)} alone")


def _runs(axes: Axes) -> Iterator[PlannedRun]:
    """One run per combination; runs that differ in their seed alone are composed once."""
    seeds = [_seed(word) for word in axes.get(SEED, [])]
    for words in itertools.product(*(lines for key, lines in axes.items() if key != SEED)):
        cfg = compose("train", list(words), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)  # run_dir bears the names of choices
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in INTERNAL_GROUPS])
        for seed in seeds or [own.seed]:
            own.seed = seed
            yield _planned(own, (*words, f"{SEED}={seed}"))


def _seed(word: str) -> int:
    value = word.partition("=")[2]
    seed = validation.integer(SEED, int(value) if value.lstrip("-").isdigit() else value, minimum=0)
    validation.real(SEED, seed, 0, LARGEST_SEED)
    return seed


def _planned(cfg: DictConfig, words: tuple[str, ...]) -> PlannedRun:
    run_dir, num_train_frames = Path(cfg.run_dir), validation.integer("num_train_frames", cfg.num_train_frames)
    if (run_dir / CONFIG).is_file():
        now = copy.deepcopy(cfg)
        OmegaConf.resolve(now)
        there = read_config(run_dir)
        require_same(
            run_dir, OmegaConf.to_yaml(there), now, "a run_suffix that tells them apart, or that folder moved away"
        )
        if is_over(run_dir) and there.num_train_frames < num_train_frames:
            raise validation.InvalidInput(
                f"the run in {run_dir} already finished at frame {there.num_train_frames}; "
                f"use run_suffix for runs of {num_train_frames} frames"
            )
    return PlannedRun(words, run_dir, num_train_frames)


def split_words(words: Sequence[str], own: Iterable[str]) -> tuple[list[str], list[str]]:
    """Words for the sweep itself, whose options are `own`, and words for its runs.

    Raises:
        InvalidInput: for a word that is none.
    """
    try:
        with initialized():
            parsed = OverridesParser.create().parse_overrides(list(words))
    except HydraException as error:
        raise validation.InvalidInput(str(error).strip().splitlines()[0]) from None
    names = set(own)

    def is_own(override: Override) -> bool:
        return override.key_or_group.split(".")[0] in names

    return [o.input_line or "" for o in parsed if is_own(o)], [o.input_line or "" for o in parsed if not is_own(o)]
