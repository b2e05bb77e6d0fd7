"""The agents: DrQ, DrQ-v2, DQN and C51."""

from drq_sn.agents.dqn import DQN
from drq_sn.agents.drq import DrQ
from drq_sn.agents.drqv2 import DrQV2

__all__ = ["DQN", "DrQ", "DrQV2"]
