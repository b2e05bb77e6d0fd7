"""CPU and memory limits of this process: affinity, physical memory, address space and cgroups (v1 and v2).

Slurm, Docker, Kubernetes and systemd set limits on the cgroup of a process or on one above it; a container
may see only the lower part of the hierarchy.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path("/")
RECLAIMABLE = ("active_file", "inactive_file")  # page cache, in memory.stat


def available_memory(device: torch.device) -> int:
    """Free bytes on `device`; on the host, no more than every limit of this process leaves.

    Page cache counts as free, because the kernel reclaims it.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return max(0, min([_free_host_memory(), *_free_address_space(), *_free_cgroup_memory()]))


def available_cores() -> list[int]:
    """The cores that this process may run on, by number (its affinity)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies matrices in bfloat16; a CPU without AVX512-BF16 or AMX only emulates it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", _read(ROOT / "proc/cpuinfo")) is not None  # bf16: ARM


def num_available_cores() -> int:
    """The number of cores that this process can keep busy: its affinity, or a lower CPU quota, rounded down.

    A quota gives time, not particular cores. Rounded up, the threads of one operation would use up the quota
    before the end of a period and then wait for each other.
    """
    return max(1, min([len(available_cores()), *map(int, _cpu_quotas())]))


def _free_host_memory() -> int:
    meminfo = dict(line.split(":") for line in _read(ROOT / "proc/meminfo").splitlines())
    if "MemAvailable" in meminfo:
        return int(meminfo["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # not Linux


def _free_address_space() -> Iterator[int]:
    """Bytes left by `ulimit -v`, which some batch systems set."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _read(ROOT / "proc/self/statm").split()
    if limit != resource.RLIM_INFINITY and pages:
        yield limit - int(pages[0]) * resource.getpagesize()


def _free_cgroup_memory() -> Iterator[int]:
    """Free bytes in each cgroup of this process that has a memory limit."""
    for folder, is_v2 in _cgroups("memory"):
        limits = ("memory.max", "memory.high") if is_v2 else ("memory.limit_in_bytes",)
        limit = min((int(text) for text in map(_read, map(folder.joinpath, limits)) if text.isdigit()), default=None)
        usage = _read(folder / ("memory.current" if is_v2 else "memory.usage_in_bytes"))
        if limit is not None and usage.isdigit():
            statistics = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
            prefix = "" if is_v2 else "total_"  # v1: with descendants, as in the usage
            cache = sum(int(statistics.get(prefix + name, 0)) for name in RECLAIMABLE)
            yield limit - max(0, int(usage) - cache)


def _cpu_quotas() -> Iterator[float]:
    """The quota, in cores, of each cgroup of this process that has one."""
    for folder, is_v2 in _cgroups("cpu"):
        names = ("cpu.max",) if is_v2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = " ".join(_read(folder / name) for name in names).split()
        if len(numbers) == 2 and all(number.isdigit() and int(number) for number in numbers):  # "max" or -1: no quota
            quota, period = map(int, numbers)
            yield quota / period


def _cgroups(controller: str) -> Iterator[tuple[Path, bool]]:
    """The cgroup of this process in each hierarchy with `controller`, and all visible ones above it.

    Yields:
        Its directory, and whether it is of version 2.
    """
    memberships = [line.split(":", 2) for line in _read(ROOT / "proc/self/cgroup").splitlines()]
    for root, point, controllers in _mounts():
        for _, names, path in memberships:
            is_v2 = controllers is None
            is_member = names == "" if controllers is None else controller in {*controllers} & {*names.split(",")}
            if is_member:
                # in a container, the path may lie outside of the part that is mounted: then only that part counts
                folder = point / path.removeprefix(root).lstrip("/")
                for ancestor in (folder, *folder.parents):
                    yield ancestor, is_v2
                    if ancestor == point:
                        break


def _mounts() -> Iterator[tuple[str, Path, list[str] | None]]:
    """The mounted cgroup hierarchies; see proc_pid_mountinfo(5).

    Yields:
        The cgroup that the mount point shows; the mount point; the controllers, None for v2, which has one hierarchy.
    """
    for line in _read(ROOT / "proc/self/mountinfo").splitlines():
        mount, _, file_system = line.partition(" - ")
        kind, _, options = file_system.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, point = (re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), s) for s in mount.split()[3:5])
            yield root, ROOT / point.lstrip("/"), options.split(",") if kind == "cgroup" else None


def _read(path: Path) -> str:
    """The stripped content of a file of the kernel; empty if it does not exist or may not be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
