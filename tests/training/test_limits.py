"""Memory and CPU limits, read from copies of /proc and /sys."""

from __future__ import annotations

import resource

import pytest
import torch

from drq_sn.training import limits

GB = 10**9
CPU = torch.device("cpu")
V1 = "31 23 0:29 {root} /sys/fs/cgroup/{name} rw,nosuid - cgroup cgroup rw,{name}\n"
V2 = "32 23 0:30 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V2_ROOT = V2.format(root="/")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """`system(cgroup, mountinfo, files)` -> a machine of 64 cores with 100 GB free, and these files."""

    def build(cgroup="0::/\n", mountinfo=V2_ROOT, files=None):
        contents = {
            "proc/meminfo": f"MemTotal: 200000000 kB\nMemAvailable: {100 * GB // 1024} kB\n",
            "proc/self/cgroup": cgroup,
            "proc/self/mountinfo": "23 1 0:1 / / rw - ext4 /dev/root rw\n" + mountinfo,
            **{f"sys/fs/cgroup/{name}": f"{content}\n" for name, content in (files or {}).items()},
        }
        for name, content in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    monkeypatch.setattr(limits, "ROOT", tmp_path)
    monkeypatch.setattr(limits, "available_cores", lambda: list(range(64)))
    return build


def v1_memory(folder, limit, used, cache=0):
    statistics = f"active_file 1\ninactive_file 1\ntotal_active_file {cache}\ntotal_inactive_file 0"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    return {f"memory/{folder}{name}": content for name, content in zip(names, (limit, used, statistics), strict=True)}


def v2_memory(folder, limit, used, cache=0, high="max"):
    statistics = f"anon 5\nfile {2 * used}\nactive_file 0\ninactive_file {cache}"
    contents = {"memory.max": limit, "memory.high": high, "memory.current": used, "memory.stat": statistics}
    return {f"{folder}{name}": content for name, content in contents.items()}


UNLIMITED_V1 = 9223372036854771712
MEMORY = {
    "no limit in v1": ("4:memory:/a\n", V1, v1_memory("a/", UNLIMITED_V1, GB), 100),
    "no limit in v2": ("0::/a\n", V2, v2_memory("a/", "max", GB), 100),
    "own cgroup in v1": ("4:memory:/a\n", V1, v1_memory("a/", 8 * GB, 3 * GB), 5),
    "own cgroup in v2": ("0::/a\n", V2, v2_memory("a/", 8 * GB, 3 * GB), 5),
    "another cgroup": ("0::/a\n", V2, v2_memory("b/", 8 * GB, 3 * GB), 100),
    "cgroup above in v1": (
        "4:memory:/a/b/c\n",
        V1,
        v1_memory("a/", 8 * GB, 7 * GB) | v1_memory("a/b/c/", 9 * GB, 0),
        1,
    ),
    "cgroup above in v2": ("0::/a/b/c\n", V2, v2_memory("a/", 8 * GB, 7 * GB) | v2_memory("a/b/c/", 9 * GB, 0), 1),
    "page cache in v1": ("4:memory:/a\n", V1, v1_memory("a/", 8 * GB, 7 * GB, cache=6 * GB), 7),
    "page cache in v2": ("0::/a\n", V2, v2_memory("a/", 8 * GB, 7 * GB, cache=6 * GB), 7),
    "memory.high": ("0::/a\n", V2, v2_memory("a/", "max", 3 * GB, high=5 * GB), 2),
    "usage above the limit": ("0::/a\n", V2, v2_memory("a/", 8 * GB, 9 * GB), 0),
    "more than the machine has": ("0::/a\n", V2, v2_memory("a/", 500 * GB, 3 * GB), 100),
}


@pytest.mark.parametrize(("cgroup", "mount", "files", "gigabytes"), MEMORY.values(), ids=MEMORY)
def test_memory_is_limited_by_every_cgroup_of_the_process(system, cgroup, mount, files, gigabytes):
    system(cgroup, mount.format(root="/", name="memory"), files)
    assert limits.available_memory(CPU) == pytest.approx(gigabytes * GB, abs=1024)


CONTAINERS = {  # path of the process, cgroup that the mount point shows, folder with the limit
    "shows the own cgroup only": ("/docker/abc", "/docker/abc", ""),
    "shows the own cgroup as the root": ("/", "/", ""),
    "in a cgroup inside the container": ("/docker/abc/job", "/docker/abc", "job/"),
    "path begins outside of what is shown": ("/system.slice/job", "/docker/abc", ""),
    "path above the root": ("/../job", "/", ""),
    "escaped characters": ("/my job/a\\x2db", "/my\\040job/a\\134x2db", ""),
}


@pytest.mark.parametrize(("path", "root", "folder"), CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("version", [1, 2])
def test_a_container_that_sees_a_part_of_the_hierarchy_has_its_limit(system, version, path, root, folder):
    if version == 1:
        system(f"7:memory:{path}\n", V1.format(root=root, name="memory"), v1_memory(folder, 4 * GB, GB))
    else:
        system(f"0::{path}\n", V2.format(root=root), v2_memory(folder, 4 * GB, GB))
    assert limits.available_memory(CPU) == 3 * GB


def test_a_machine_with_both_versions_has_the_limits_of_both(system):
    cgroup = "5:cpu,cpuacct:/job\n4:memory:/job\n1:name=systemd:/x\n0::/job\n"
    mounts = V1.format(root="/", name="memory") + V1.format(root="/", name="cpu,cpuacct")
    unified = "33 23 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    quota = {"cpu,cpuacct/job/cpu.cfs_quota_us": 300_000, "cpu,cpuacct/job/cpu.cfs_period_us": 100_000}
    system(cgroup, mounts + unified, v1_memory("job/", 8 * GB, GB) | quota | v2_memory("unified/job/", 6 * GB, GB))
    assert limits.available_memory(CPU) == 5 * GB
    assert limits.num_available_cores() == 3


def test_a_limit_of_the_address_space_counts(system, tmp_path, monkeypatch):
    system()
    (tmp_path / "proc/self/statm").write_text("1000 500 300 1 0 400 0\n")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4 * GB, 4 * GB))
    assert limits.available_memory(CPU) == 4 * GB - 1000 * resource.getpagesize()


def test_without_proc_memory_is_the_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ROOT", tmp_path)
    assert limits.available_memory(CPU) > 0


QUOTAS = {
    "no quota": ("max 100000", 64),
    "one core": ("100000 100000", 1),
    "half a core": ("50000 100000", 1),
    "one core and a half": ("150000 100000", 1),
    "seven cores of another period": ("350000 50000", 7),
    "more than the affinity": ("10000000 100000", 64),
}


@pytest.mark.parametrize(("content", "num_cores"), QUOTAS.values(), ids=QUOTAS)
@pytest.mark.parametrize("version", [1, 2])
def test_cores_are_limited_by_the_quota_and_the_affinity(system, version, content, num_cores):
    if version == 1:
        quota, period = content.replace("max", "-1").split()
        files = {"cpu/a/cpu.cfs_quota_us": quota, "cpu/a/cpu.cfs_period_us": period}
        system("4:cpu:/a/b\n", V1.format(root="/", name="cpu"), files)
    else:
        system("0::/a/b\n", files={"a/cpu.max": content, "a/b/cpu.max": "max 100000"})
    assert limits.num_available_cores() == num_cores
    assert limits.available_cores() == list(range(64))


def test_a_single_pinned_core_is_one_core_whatever_the_quota(system, monkeypatch):
    system("0::/a\n", files={"a/cpu.max": "400000 100000"})
    monkeypatch.setattr(limits, "available_cores", lambda: [5])
    assert limits.num_available_cores() == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        (None, False),
    ],
)
def test_bfloat16_is_read_from_the_cpus_flags(system, tmp_path, flags, expected):
    system()
    if flags is not None:
        (tmp_path / "proc/cpuinfo").write_text(flags)
    assert limits.has_bfloat16(CPU) == expected
    assert limits.has_bfloat16(torch.device("meta"))
