"""Runtimes: how updates and actions are executed (eagerly, compiled, or as CUDA graphs).

A function fit for every runtime takes tensors and named tuples of tensors as positional arguments
and hashable flags by keyword, reads and writes no tensors but these and its owner's, never waits for
the device, and returns a tensor or a dictionary of 0-d tensors.
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
    """A way to execute functions.

    Attributes:
        captures: whether it captures functions, which must then draw no random numbers on the host.
        compiles: whether it compiles functions, which must then take no second derivatives.
    """

    captures: bool
    compiles: bool

    def __call__(self, function: Function, device: torch.device) -> Function:
        """Return a function that computes the same on `device`.

        Raises:
            InvalidInput: if this machine cannot.
        """


class Eager:
    """One operation after the other, as written."""

    captures = compiles = False

    def __call__(self, function: Function, device: torch.device) -> Function:
        """Return `function` itself."""
        del device
        return function


class Compiled:
    """`torch.compile`: fused kernels, generated at the first call of each variant (a minute on two cores).

    Random numbers are those of eager PyTorch.
    """

    captures, compiles = False, True

    def __call__(self, function: Function, device: torch.device) -> Function:
        """Return `function`, compiled for `device`."""
        compilers = COMPILERS[device.type]
        chosen = os.environ.get("CXX" if device.type == "cpu" else "CC", "")
        if not any(shutil.which(name) for name in (chosen, *compilers)):
            raise validation.InvalidInput(
                f"runtime=compile: no C++ compiler found; install {' or '.join(compilers)}, or use runtime=eager"
            )
        return torch.compile(function, dynamic=False, options={"fallback_random": True})


class CudaGraph:
    """A CUDA graph per variant: the whole update is one launch.

    The first calls of a variant run eagerly on the capture stream. They are ordinary calls, in which
    CUDA libraries make the allocations that a capture does not allow. A capture executes nothing and is
    replayed at once, so every call is executed exactly once.

    Args:
        num_eager_calls: calls of a variant before its capture.
    """

    captures, compiles = True, False

    def __init__(self, num_eager_calls: int = 3) -> None:
        self.num_eager_calls = validation.integer("runtime.num_eager_calls", num_eager_calls)

    def __call__(self, function: Function, device: torch.device) -> Function:
        """Return `function`, captured after its first calls."""
        if device.type != "cuda":
            raise validation.InvalidInput(f"runtime=cuda_graph needs a CUDA device, got {device}; use runtime=eager")
        return Graphed(function, self.num_eager_calls, CudaRecorder(device))


class Recorder(Protocol):
    """Captures calls; `CudaRecorder`, or an emulation in tests."""

    def run_eagerly(self, call: Callable[[], Any]) -> Any:
        """Run `call` where captures are made, and return its result."""

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Capture `call` without executing it; return its replay and the tensors that each replay writes to."""


class CudaRecorder:
    """Captures with `torch.cuda.CUDAGraph`; all graphs of one function share a memory pool."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # as PyTorch has it
        self._pool = torch.cuda.graph_pool_handle()

    def run_eagerly(self, call: Callable[[], Any]) -> Any:
        """Run `call` on the capture stream; the current stream waits for it."""
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
    """A function with one graph per variant.

    A variant is a combination of flags with the shapes and types of the inputs. Inputs are copied to
    the tensors that the graph reads, results from the tensors that it writes to.
    """

    def __init__(self, function: Function, num_eager_calls: int, recorder: Recorder) -> None:
        self._function = function
        self._num_eager_calls = num_eager_calls
        self._recorder = recorder
        self._num_calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, tuple[Callable[[], None], list[Tensor], Any]] = {}

    def __call__(self, *inputs: Any, **flags: Hashable) -> Any:
        """Call the function: eagerly at first, then by replay."""
        tensors = _flatten(inputs)
        variant = (*((t.shape, t.dtype) for t in tensors), *sorted(flags.items()))
        if variant not in self._graphs:
            self._num_calls[variant] = self._num_calls.get(variant, 0) + 1
            if self._num_calls[variant] <= self._num_eager_calls:
                return self._recorder.run_eagerly(lambda: self._function(*inputs, **flags))
            static_inputs = [_clone_input(value) for value in inputs]
            replay, result = self._recorder.record(lambda: self._function(*static_inputs, **flags))
            self._graphs[variant] = replay, _flatten(static_inputs), result
        replay, static_tensors, result = self._graphs[variant]
        for static_tensor, tensor in zip(static_tensors, tensors, strict=True):
            static_tensor.copy_(tensor, non_blocking=True)
        replay()
        return _clone_result(result)


def _flatten(inputs: Any) -> list[Tensor]:
    """All tensors of the arguments, in order."""
    return [tensor for value in inputs for tensor in (value if isinstance(value, tuple) else (value,))]


def _clone_input(value: Any) -> Any:
    return type(value)(*map(torch.clone, value)) if isinstance(value, tuple) else value.clone()


def _clone_result(result: Any) -> Any:
    """A copy that the next replay does not overwrite; the 0-d tensors of a dictionary in one operation."""
    if isinstance(result, Tensor):
        return result.clone()
    return dict(zip(result, torch.stack(list(result.values())).unbind(), strict=True))
