"""How this process uses the CPU: which cores, how many threads, and memory that it keeps."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Sequence

import torch

from drq_sn import validation

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt
PRECISIONS = ("highest", "high", "medium")
NEVER = -1


def set_up(num_threads: int | None, cores: Sequence[int] | None, matmul_precision: str = "highest") -> None:
    """Settle cores, threads, allocator and precision; call it before the first tensor is made.

    Args:
        num_threads: threads of torch; None takes one per core of `cores`, or torch's own choice.
        cores: cores to stay on, so that runs beside each other do not fight; None for all.
        matmul_precision: of float32 matrix products, as in `torch.set_float32_matmul_precision`: `highest`,
            `high` (TF32 on CUDA), `medium` (bfloat16 inside).

    Raises:
        InvalidInput: for cores that this process may not use, or a wrong number.
    """
    if cores is not None:
        chosen = list(cores) if isinstance(cores, Sequence) else [cores]
        _stay_on(chosen)
        num_threads = len(chosen) if num_threads is None else num_threads
    if num_threads is not None:
        torch.set_num_threads(validation.integer("num_threads", num_threads))
    give_back_memory()  # of an earlier run in this process, which else looks taken
    torch.set_float32_matmul_precision(validation.choice("matmul_precision", matmul_precision, PRECISIONS))
    keep_freed_memory()


def give_back_memory() -> None:
    """Return to the system what is freed but kept: glibc's heap and torch's cache of CUDA blocks."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    torch.cuda.empty_cache()


def available_cores() -> list[int]:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _stay_on(cores: list[int]) -> None:
    available = available_cores()
    if (
        not cores
        or any(not isinstance(core, int) or core not in available for core in cores)
        or len(set(cores)) < len(cores)
    ):
        raise validation.InvalidInput(f"cores must be a list of different cores out of {available}, got {cores}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def keep_freed_memory() -> bool:
    """Let the C library's allocator reuse large freed blocks instead of returning them to the system.

    By default glibc maps every large tensor anew, and the kernel zeroes each of its pages when it is
    first touched: hundreds of thousands of page faults in one update (docs/performance.md). The
    process then stays as large as its largest moment.

    Returns:
        Whether the C library could be told; others than glibc have no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
