"""Environments that speak dm_env and show stacked pixels."""

from drq_sn.envs.factory import make_env, require_task, task_names

__all__ = ["make_env", "require_task", "task_names"]
