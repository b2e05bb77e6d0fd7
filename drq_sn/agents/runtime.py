"""How updates and actions are executed: a callable goes in, one that computes the same comes out.

A callable fit for every runtime takes tensors and named tuples of tensors as positional arguments
and hashable flags by keyword, reads and writes no other tensors than its owner's, never waits for
the device, and returns a tensor or a dictionary of tensors.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

from drq_sn import validation

Function = Callable[..., Any]
COMPILERS = {"cpu": ("g++", "clang++"), "cuda": ("gcc", "clang", "cc")}


class Runtime(Protocol):
    """What agents are given."""

    def __call__(self, function: Function, device: torch.device) -> Function:
        """Return a callable that computes on `device` what `function` does.

        Raises:
            InvalidInput: if this machine cannot.
        """


class Eager:
    """One operation after the other, as written."""

    def __call__(self, function: Function, device: torch.device) -> Function:
        """Return `function` itself."""
        return function


class Compiled:
    """`torch.compile`: fused kernels, generated at the first call of each variant (a minute on two cores).

    Random numbers are eager PyTorch's, so that both draw the same.
    """

    compiles = True

    def __call__(self, function: Function, device: torch.device) -> Function:
        """Return `function` compiled for `device`."""
        compilers = COMPILERS[device.type]
        if not any(
            shutil.which(name) for name in (os.environ.get("CXX" if device.type == "cpu" else "CC", ""), *compilers)
        ):
            raise validation.InvalidInput(
                f"runtime=compile: no C++ compiler found; install {' or '.join(compilers)}, or use runtime=eager"
            )
        return torch.compile(function, dynamic=False, options={"fallback_random": True})


class CudaGraph:
    """A captured graph per variant: the whole update is one launch.

    The first calls of a variant run eagerly, on a stream of their own: they count like any other,
    and let CUDA's libraries allocate what a capture must not. Capturing executes nothing, and the
    call that captured is the first one replayed, so no update is lost or done twice.

    Args:
        num_eager_calls: calls of a variant before its capture.
    """

    captures = True

    def __init__(self, num_eager_calls: int = 3) -> None:
        self.num_eager_calls = validation.integer("runtime.num_eager_calls", num_eager_calls)

    def __call__(self, function: Function, device: torch.device) -> Function:
        """Return `function`, captured once it is warm."""
        if device.type != "cuda":
            raise validation.InvalidInput(f"runtime=cuda_graph needs a CUDA device, got {device}; use runtime=eager")
        return Graphed(function, self.num_eager_calls, CudaRecorder(device))


class Recorder(Protocol):
    """What captures: CUDA, or a stand-in where there is none."""

    def run_aside(self, call: Callable[[], Any]) -> Any:
        """Run `call` eagerly where captures are made, and return its result."""

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Capture `call` without executing it: (what executes it, the tensors that then hold its result)."""


class CudaRecorder:
    """Captures with `torch.cuda.CUDAGraph`; all graphs of one callable share a memory pool."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def run_aside(self, call: Callable[[], Any]) -> Any:
        """Run `call` on the capturing stream; the caller's stream waits for it."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            result = call()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return result

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Capture `call`."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            result = call()
        return graph.replay, result


class Graphed:
    """A callable that is captured, variant by variant, and replayed.

    A variant is one combination of flags and of the inputs' shapes and types. Inputs are copied to
    where its capture reads them, results copied from where it leaves them.
    """

    def __init__(self, function: Function, num_eager_calls: int, recorder: Recorder) -> None:
        self._function = function
        self._num_eager_calls = num_eager_calls
        self._recorder = recorder
        self._num_calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, tuple[Callable[[], None], list[Tensor], Any]] = {}

    def __call__(self, *inputs: Any, **flags: Hashable) -> Any:
        tensors = _tensors(inputs)
        variant = (*((t.shape, t.dtype) for t in tensors), *sorted(flags.items()))
        if variant not in self._graphs:
            self._num_calls[variant] = self._num_calls.get(variant, 0) + 1
            if self._num_calls[variant] <= self._num_eager_calls:
                return self._recorder.run_aside(lambda: self._function(*inputs, **flags))
            own = [_copied(value) for value in inputs]
            replay, result = self._recorder.record(lambda: self._function(*own, **flags))
            self._graphs[variant] = replay, _tensors(own), result
        replay, places, result = self._graphs[variant]
        for place, tensor in zip(places, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)
        replay()
        return _cloned(result)


def _tensors(inputs: Any) -> list[Tensor]:
    """Every tensor of the arguments, in order."""
    return [tensor for value in inputs for tensor in (value if isinstance(value, tuple) else (value,))]


def _copied(value: Any) -> Any:
    return type(value)(*map(torch.clone, value)) if isinstance(value, tuple) else value.clone()


def _cloned(result: Any) -> Any:
    """A result that the next replay leaves alone; a dictionary's 0-d tensors in a single copy."""
    if isinstance(result, Tensor):
        return result.clone()
    return dict(zip(result, torch.stack(list(result.values())).unbind(), strict=True))
