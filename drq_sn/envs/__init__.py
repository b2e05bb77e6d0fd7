"""Environments with the dm_env interface and stacked pixel observations."""

from drq_sn.envs.factory import make_env
from drq_sn.envs.suite import require_task, task_names

__all__ = ["make_env", "require_task", "task_names"]
