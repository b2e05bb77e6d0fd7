"""A game with MinAtar's interface, for where the package is not installed."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np

IS_INSTALLED = importlib.util.find_spec("minatar") is not None


class StandIn:
    """A walk on the board with sticky actions, lost at random."""

    def __init__(self, name, sticky_action_prob=0.1, difficulty_ramping=True):
        self.sticky_action_prob, self.last_action = sticky_action_prob, 0
        self.seed(0)

    def seed(self, seed=None):
        self.random = np.random.RandomState(seed)

    def reset(self):
        self.at = self.random.randint(10)

    def act(self, a):
        if self.random.rand() < self.sticky_action_prob:
            a = self.last_action
        self.last_action = a
        self.at = (self.at + a) % 10
        return int(self.at == 0), self.random.rand() < 0.05

    def state(self):
        state = np.zeros((10, 10, 4), bool)
        state[self.at, self.last_action, 1] = True
        return state

    def state_shape(self):
        return [10, 10, 4]

    def num_actions(self):
        return 6


def use_stand_in(monkeypatch):
    """Let `StandIn` be the package's environment, unless that is installed."""
    if not IS_INSTALLED:
        module = types.ModuleType("minatar")
        module.Environment = StandIn
        monkeypatch.setitem(sys.modules, "minatar", module)
