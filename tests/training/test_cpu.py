"""Threads, cores, precision and the allocator: tried in processes of their own, since they stay."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from drq_sn.training import cpu
from drq_sn.training.limits import available_cores
from drq_sn.validation import InvalidInput

FAULTS = """
import resource, torch
from drq_sn.training import cpu
torch.set_num_threads(1)
def num_faults():
    for i in range(20):  # the first until the heap has a place for everything
        if i == 17:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        [torch.ones(1 << 24) for _ in range(2)]  # 64 MiB each, given back at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
default = num_faults()
cpu.keep_freed_memory()
print(default, num_faults())
"""


def python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="the C library is not glibc")
def test_kept_memory_is_not_faulted_in_again():
    default, kept = map(int, python(FAULTS).split())
    assert kept < default / 10


def test_threads_are_limited_by_a_cpu_quota_and_cores_bring_theirs():
    core = available_cores()[-1]
    code = f"""
import os, torch
from drq_sn.training import cpu
num_available_cores = cpu.num_available_cores
cpu.num_available_cores = lambda: 2
torch.set_num_threads(7)
cpu.set_up(None, None)
print(torch.get_num_threads())
cpu.set_up(5, None)
print(torch.get_num_threads())
cpu.num_available_cores = num_available_cores
cpu.set_up(None, [{core}])
print(sorted(os.sched_getaffinity(0)), torch.get_num_threads(), torch.get_float32_matmul_precision())
cpu.set_up(3, None, "high")
print(torch.get_num_threads(), torch.get_float32_matmul_precision())
with cpu.restored():
    cpu.set_up(1, None)
print(torch.get_num_threads())
"""
    assert python(code).splitlines() == ["2", "5", f"[{core}] 1 highest", "3 high", "3"]


def test_cores_and_threads_of_one_run_are_not_those_of_the_next():
    code = f"""
import os, torch
from drq_sn.training import cpu
def affinities():
    return {{tuple(sorted(os.sched_getaffinity(int(thread)))) for thread in os.listdir("/proc/self/task")}}
cores, num_threads = tuple(sorted(os.sched_getaffinity(0))), torch.get_num_threads()
with cpu.restored():
    cpu.set_up(2, [{available_cores()[-1]}])
    torch.ones(500, 500) @ torch.ones(500, 500)  # starts threads
    during = affinities()
print(during == {{({available_cores()[-1]},)}}, affinities() == {{cores}}, torch.get_num_threads() == num_threads)
"""
    assert python(code) == "True True True"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, None), "num_threads must be"),
        ((None, [10**6]), r"cores must be a list of different cores out of \["),
        ((None, [0.0]), r"cores must be .*got \[0.0\]"),
        ((None, [available_cores()[0]] * 2), "a list of different cores"),
        ((None, []), r"cores must be .*got \[\]"),
        ((None, 10**6), r"cores must be .*got \[1000000\]"),
        ((None, None, "low"), "matmul_precision must be one of|unknown matmul_precision"),
    ],
)
def test_wrong_values_are_named(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        cpu.set_up(*arguments)
