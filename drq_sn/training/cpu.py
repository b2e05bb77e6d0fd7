"""Settings of this process: cores, threads, allocator, precision, cuDNN."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from drq_sn import validation
from drq_sn.training.limits import available_cores, num_available_cores

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt
PRECISIONS = ("highest", "high", "medium")
NEVER = -1
MOST_THREADS_PER_CORE = 4  # a few thousand more stop a whole machine


def set_up(num_threads: int | None, cores: Sequence[int] | None, matmul_precision: str = "highest") -> None:
    """Set cores, threads, allocator, precision and cuDNN; call it before the first tensor is created.

    Args:
        num_threads: threads of torch, at most four per core of the machine; None for one per core of `cores`, or
            torch's default, but no more than a CPU quota allows (see `num_available_cores`).
        cores: cores to run on, so that parallel runs do not compete; None for all.
        matmul_precision: of float32 matrix products, as in `torch.set_float32_matmul_precision`: `highest`,
            `high` (TF32 on CUDA), `medium` (bfloat16 inside).

    Raises:
        InvalidInput: for an invalid value, or cores that this process may not use.
    """
    if cores is not None:
        _set_affinity(list(cores) if isinstance(cores, Sequence) else [cores])
    if num_threads is None and (cores is not None or torch.get_num_threads() > num_available_cores()):
        num_threads = num_available_cores()
    if num_threads is not None:
        torch.set_num_threads(
            validation.integer("num_threads", num_threads, maximum=MOST_THREADS_PER_CORE * (os.cpu_count() or 1))
        )
    release_memory()  # of an earlier run in this process, which would otherwise count as used
    torch.backends.cudnn.benchmark = True  # convolutions have few shapes: measure which algorithm is fastest
    torch.set_float32_matmul_precision(validation.choice("matmul_precision", matmul_precision, PRECISIONS))
    keep_freed_memory()


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore cores and threads afterwards, for the next run in this process."""
    cores, num_threads = available_cores(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        _move_threads(cores)


def release_memory() -> None:
    """Return free memory to the system: glibc's heap and torch's cache of CUDA blocks."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    torch.cuda.empty_cache()


def _set_affinity(cores: list[int]) -> None:
    """Run on `cores` from now on; `InvalidInput` unless they are different ones out of the available."""
    available = available_cores()
    if (
        not cores
        or any(not isinstance(core, int) or core not in available for core in cores)
        or len(set(cores)) < len(cores)
    ):
        raise validation.InvalidInput(f"cores must be a list of different cores out of {available}, got {cores}")
    _move_threads(cores)


def _move_threads(cores: Sequence[int]) -> None:
    """Move all threads of this process to `cores`; those of torch, once started, do not follow the main thread."""
    if hasattr(os, "sched_setaffinity"):
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(int(thread.name), cores)


def keep_freed_memory() -> None:
    """Let the C library's allocator reuse large freed blocks instead of returning them to the system.

    By default glibc maps memory for every large tensor, and the kernel zeroes each of its pages at the first
    access: hundreds of thousands of page faults in one update (docs/performance.md). The process then
    keeps its peak size. Other C libraries have no such setting.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)
