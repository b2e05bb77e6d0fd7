"""Whose time it is: phases of a trace."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile

from drq_sn.profiling.phases import attribute, labelled, phase_seconds

CPU = torch.device("cpu")


def event(name, start, end, own=0.0, sequence_nr=-1, scope=0, parent=None, device_time=0.0, device=DeviceType.CPU):
    return SimpleNamespace(
        name=name, time_range=SimpleNamespace(start=start, end=end), self_cpu_time_total=own * 1e6,
        self_device_time_total=device_time * 1e6, sequence_nr=sequence_nr, scope=scope, cpu_parent=parent,
        device_type=device,
    )  # fmt: skip


def test_the_innermost_phase_has_the_time_and_a_gradient_that_of_its_operation():
    step = event("autograd::engine::evaluate_function: ConvolutionBackward0", 59, 81, own=32, sequence_nr=5)
    backward = event("ConvolutionBackward0", 60, 80, own=1, sequence_nr=5, scope=1, parent=step)
    events = [
        event("phase/critic", 0, 100),
        event("phase/encode", 10, 20),
        event("aten::conv", 11, 19, own=2, sequence_nr=5),
        event("aten::mm", 30, 40, own=4),
        step,
        backward,
        event("aten::convolution_backward", 61, 79, own=8, parent=backward),
        event("aten::zeros", 110, 120, own=16),
    ]
    assert attribute(events, ["encode", "critic", "other"], on_device=False) == {"encode": 43, "critic": 4, "other": 16}


def test_on_a_device_the_kernels_time_counts():
    events = [event("phase/a", 0, 10), event("aten::mm", 1, 2, own=5, device_time=3)]
    assert attribute(events, ["a", "other"], on_device=True) == {"a": 3, "other": 0}


def test_a_kernel_counts_once_and_for_the_operation_that_launched_it():
    """Real events, as a trace with CUDA has them: the kernel runs later, and its label has a copy on the device."""

    def real(number, name, start, end, device=DeviceType.CPU):
        return FunctionEvent(
            id=number, name=name, thread=1, start_us=start, end_us=end, device_type=device, use_device="cuda"
        )

    encode, critic = real(1, "phase/encode", 0, 10), real(2, "phase/critic", 20, 30)
    launch = real(3, "aten::mm", 1, 2)
    launch.append_kernel("gemm", 0, 100)
    on_device = [real(4, "gemm", 21, 121, DeviceType.CUDA), real(5, "phase/encode", 21, 121, DeviceType.CUDA)]
    shares = attribute([encode, critic, launch, *on_device], ["encode", "critic", "other"], on_device=True)
    assert shares == {"encode": pytest.approx(100e-6), "critic": 0, "other": 0}


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = torch.nn.Conv2d(1, 2, 3), torch.nn.Linear(18, 1)

    def step(self):
        self.linear(self.conv(torch.ones(4, 1, 5, 5)).flatten(1)).sum().backward()


def test_a_real_convolutions_gradient_is_its_phases_own():
    pair = Pair()
    with labelled({"encode": [(pair.conv, "forward")], "critic": [(pair, "step")]}), profile() as trace:
        pair.step()
    events = [e for e in trace.events() if e.name.startswith("phase/") or "conv" in e.name.lower()]
    shares = attribute(events, ["encode", "critic", "other"], on_device=False)
    assert shares["encode"] > 0
    assert shares["critic"] == shares["other"] == 0


def test_every_phase_has_its_share():
    pair = Pair()
    seconds = phase_seconds(lambda: pair.step(), {"encode": [(pair.conv, "forward")], "critic": [(pair, "step")]}, CPU)
    assert set(seconds) == {"encode", "critic", "other"}
    assert min(seconds["encode"], seconds["critic"]) > 0


def test_labels_are_taken_off_again():
    pair = Pair()
    pair.own = print
    with labelled({"a": [(pair.conv, "forward"), (pair, "own")]}):
        assert "forward" in vars(pair.conv)
    assert "forward" not in vars(pair.conv)
    assert pair.own is print
