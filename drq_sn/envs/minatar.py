"""MinAtar games (Young and Tian 2019) with the interface of dm_env; needs the extra `drq_sn[minatar]`."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from drq_sn import validation

PREFIX = "minatar_"
GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
TIME_LIMITED = "freeway"  # ends by a timer of 2500 frames and never otherwise
COLORS = np.array(
    [[0, 0, 0], [68, 119, 170], [238, 102, 119], [34, 136, 51], [204, 187, 68], [102, 204, 238], [170, 51, 119],
     [187, 187, 187], [255, 170, 0], [0, 200, 170], [255, 255, 255]], np.uint8)  # fmt: skip


def make_env(task: str, sticky_actions: float = 0.1, difficulty_ramping: bool = True) -> MinAtar:
    """Make a MinAtar game.

    Args:
        task: `minatar_breakout` and so on.
        sticky_actions: probability that the previous action is repeated instead.
        difficulty_ramping: whether games become harder the longer they are played.

    Raises:
        InvalidInput: if MinAtar is missing, for an unknown task, or a wrong value.
    """
    validation.choice("task", task, [PREFIX + game for game in GAMES])
    validation.real("env.sticky_actions", sticky_actions, 0, 1)
    validation.boolean("env.difficulty_ramping", difficulty_ramping)
    game = task.removeprefix(PREFIX)
    return MinAtar(game, _import().Environment(game, sticky_actions, difficulty_ramping))


def _import() -> Any:
    """The package, without its warning that it cannot draw."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)  # else the warning would configure logging
    logging.disable(logging.WARNING)
    try:
        return importlib.import_module("minatar")
    except ImportError as error:
        raise validation.InvalidInput(f"env=minatar needs 'pip install drq_sn[minatar]' ({error})") from None
    finally:
        logging.disable(logging.NOTSET)
        root.removeHandler(handler)


class MinAtar(dm_env.Environment):  # type: ignore[misc]  # dm_env has no type hints
    """A MinAtar game with all six actions.

    Observations are (C, 10, 10) uint8, 0 or 1: one plane per kind of object. A lost game ends with discount 0; only
    freeway ends by a time limit, with discount 1. The previous action, which sticky actions repeat, is forgotten at a
    reset, so that an episode follows from the random state alone; the package keeps it.

    Attributes:
        gives_planes: see `PixelStack`.
        random: what episodes are drawn from, sticky actions included.
    """

    gives_planes = True

    def __init__(self, name: str, game: Any) -> None:
        self._name, self._game = name, game
        game.seed(0)  # one generator for sticky actions and the game
        self.random: np.random.RandomState = game.random
        self._is_over = True

    def reset(self) -> dm_env.TimeStep:
        """Start an episode."""
        self._game.reset()
        self._game.last_action = 0
        self._is_over = False
        return dm_env.restart(self._planes())

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one frame."""
        if self._is_over:
            return self.reset()
        reward, self._is_over = self._game.act(int(action))
        if not self._is_over:
            return dm_env.transition(float(reward), self._planes(), discount=1.0)
        if self._name == TIME_LIMITED:
            return dm_env.truncation(float(reward), self._planes(), discount=1.0)
        return dm_env.termination(float(reward), self._planes())

    def observation_spec(self) -> specs.BoundedArray:
        """Shape, dtype and range of the planes."""
        height, width, channels = self._game.state_shape()
        return specs.BoundedArray((channels, height, width), np.uint8, 0, 1, "planes")

    def action_spec(self) -> specs.DiscreteArray:
        """Number of actions."""
        return specs.DiscreteArray(self._game.num_actions(), np.int64, "action")

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the board, (height, width, 3) uint8, one color per plane; later planes cover earlier ones."""
        planes = self._planes()
        topmost = (planes * np.arange(1, len(planes) + 1, dtype=np.uint8)[:, None, None]).max(0)
        rows, columns = (np.arange(size) * n // size for size, n in zip((height, width), topmost.shape, strict=True))
        picture: np.ndarray = COLORS[topmost][rows][:, columns]
        return picture

    def _planes(self) -> np.ndarray:
        return np.ascontiguousarray(self._game.state().transpose(2, 0, 1), np.uint8)
