"""What a result was measured on: versions, devices, renderer."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from drq_sn import checks

PACKAGES = ("drq_sn", "torch", "mujoco", "dm_control", "numpy", "kornia", "hydra-core")


def versions() -> dict[str, str]:
    """Versions of Python and of every package that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_commit() -> str | None:
    """Commit of the checkout that this package runs from, `-dirty` if changed; None outside one."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def select_device(name: str) -> torch.device:
    """`auto` -> CUDA where there is one, else the CPU; any other name -> that device.

    Raises:
        InvalidInput: if the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accepted = [
        "auto",
        "cpu",
        *(["cuda"] if torch.cuda.is_available() else []),
        *(f"cuda:{i}" for i in range(torch.cuda.device_count())),
    ]
    return torch.device(checks.choice("device", name, accepted))


def device_name(device: torch.device) -> str:
    """The hardware's own name of `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()} ({os.cpu_count()} cores)"


def processor_name() -> str:
    """Name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def frame_hash(env: Any) -> str:
    """SHA-256 of the first frame that `env` shows; equal hashes mean equal pixels."""
    return hashlib.sha256(env.reset().observation[-3:].tobytes()).hexdigest()
