"""Provenance of a result: versions, commit, device, first frame."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from drq_sn import validation

PACKAGES = ("drq_sn", "torch", "mujoco", "dm_control", "numpy", "kornia", "hydra-core")
EXTRAS = ("minatar",)


def versions() -> dict[str, str]:
    """Versions of Python and of every package that can affect a result, extras where they are installed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    for package in EXTRAS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def git_commit() -> str | None:
    """Commit of this project's checkout, with `-dirty` if it has changes; None if the package is installed elsewhere.

    Prints a warning if git fails in a checkout.
    """
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    # the checkout may have another owner, whose code runs here anyway
    git = ["git", "-C", str(checkout), "-c", "safe.directory=*", "-c", "core.fsmonitor=false"]
    command = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else ""
        print(f"warning: the commit is not recorded: {validation.first_line(reason or error)}", file=sys.stderr)
        return None
    return result.stdout.strip()


def select_device(name: str) -> torch.device:
    """`auto` selects CUDA if available, else the CPU; a CUDA device becomes the current one.

    Raises:
        InvalidInput: if there is no such device.
    """
    available = torch.cuda.is_available()
    devices = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if available else []
    if name == "auto":
        return torch.device("cuda" if devices else "cpu")
    if str(name).startswith("cuda") and not devices:
        raise validation.InvalidInput(f"device must be auto or cpu, as PyTorch finds no CUDA device, got {name!r}")
    device = torch.device(validation.choice("device", name, ["auto", "cpu", *devices]))
    if device.index is not None:  # torch refuses `cuda` alone
        torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
    """Hardware name of `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()} ({os.cpu_count()} cores)"


def slug(name: str) -> str:
    """`name` as part of a path: lower-case letters, digits and single underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def describe(device: torch.device) -> dict[str, Any]:
    """Properties of this machine that a measurement depends on, as plain data."""
    facts: dict[str, Any] = {
        "device": device_name(device),
        "processor": processor_name(),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": platform.platform(),
        "versions": versions(),
        "git_commit": git_commit(),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["cuda"] = {
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "num_multiprocessors": properties.multi_processor_count,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
            "convolution_tf32": torch.backends.cudnn.allow_tf32,
        }
    return facts


def processor_name() -> str:
    """Name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def frame_hash(env: Any) -> str:
    """SHA-256 of the first frame of `env`; equal hashes mean equal pixels."""
    return hashlib.sha256(env.reset().observation[-env.frame_shape[0] :].tobytes()).hexdigest()
