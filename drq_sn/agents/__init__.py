"""The agents: one short recipe each, on shared ingredients."""

from drq_sn.agents.dqn import DQN
from drq_sn.agents.drq import DrQ
from drq_sn.agents.drqv2 import DrQV2

__all__ = ["DQN", "DrQ", "DrQV2"]
