"""CUDA graphs of functions: captured after eager calls, and compared with them on request; see `runtime`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

from drq_sn.validation import first_line

Function = Callable[..., Any]
Tensors = Callable[[], list[Tensor]]
"""Returns all tensors that a function reads and writes besides its arguments."""
Graph = tuple[Callable[[], None], list[Tensor], Any]
"""Replay, the tensors that it reads as inputs, and what it writes to."""
CHANGE_TOLERANCE = 0.05  # of a tensor's change in a call; a wrong graph misses more, rounding makes far less


class GraphRecorder(Protocol):
    """Captures calls; `CudaRecorder`, or an emulation in tests."""

    def run_eagerly(self, call: Callable[[], Any]) -> Any:
        """Run `call` where captures are made, and return its result."""

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Capture `call` without executing it; return its replay and the tensors that each replay writes to."""

    def random_state(self) -> Tensor:
        """State of the generator that calls draw from."""

    def set_random_state(self, state: Tensor) -> None:
        """Return to an earlier `random_state`."""


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

    def random_state(self) -> Tensor:
        """State of the device's generator."""
        return torch.cuda.get_rng_state(self._device)

    def set_random_state(self, state: Tensor) -> None:
        """Set the state of the device's generator."""
        torch.cuda.set_rng_state(state, self._device)


class Graphed:
    """A function with one graph per variant.

    A variant is a combination of flags with the shapes and types of the inputs. Inputs are copied to
    the tensors that the graph reads, results from the tensors that it writes to.

    Args:
        function: takes and returns tensors, or tuples and dictionaries of them; its flags are keyword arguments.
        num_eager_calls: calls of a variant before it is captured.
        recorder: captures it.
    """

    def __init__(self, function: Function, num_eager_calls: int, recorder: GraphRecorder) -> None:
        self._function = function
        self._num_eager_calls = num_eager_calls
        self._recorder = recorder
        self._num_calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, Graph] = {}

    def __call__(self, *inputs: Any, **flags: Hashable) -> Any:
        """Call the function: eagerly at first, then by replay."""
        variant = (*((t.shape, t.dtype) for t in _flatten(inputs)), *sorted(flags.items()))
        self._num_calls[variant] = self._num_calls.get(variant, 0) + 1
        if self._num_calls[variant] <= self._num_eager_calls:
            return self._call_eagerly(inputs, flags)
        if variant not in self._graphs:
            self._graphs[variant] = self._capture(inputs, flags)
        return self._replay(variant, inputs, flags)

    def _call_eagerly(self, inputs: tuple[Any, ...], flags: dict[str, Hashable]) -> Any:
        return self._recorder.run_eagerly(lambda: self._function(*inputs, **flags))

    def _capture(self, inputs: tuple[Any, ...], flags: dict[str, Hashable]) -> Graph:
        static_inputs = [_clone_input(value) for value in inputs]
        replay, result = self._recorder.record(lambda: self._function(*static_inputs, **flags))
        return replay, _flatten(static_inputs), result

    def _replay(self, variant: Hashable, inputs: tuple[Any, ...], flags: dict[str, Hashable]) -> Any:
        del flags  # part of the graph
        replay, static_tensors, result = self._graphs[variant]
        for static_tensor, tensor in zip(static_tensors, _flatten(inputs), strict=True):
            static_tensor.copy_(tensor, non_blocking=True)
        replay()
        return _clone_result(result)


class CaptureFailed(Exception):
    """A function could not be captured."""


class CheckedGraphs(Graphed):
    """Graphs whose first replays are compared with eager calls of the same inputs and random state.

    The eager results count. At the first difference beyond rounding, or if a capture fails, all calls are eager from
    then on, with one warning. A check waits for the device and holds a copy of all tensors twice.

    Args:
        function: see `Graphed`.
        num_eager_calls: see `Graphed`.
        recorder: see `Graphed`.
        tensors: all tensors that the function reads and writes besides its arguments.
        num_checks: replays of a variant that are compared.
    """

    def __init__(
        self, function: Function, num_eager_calls: int, recorder: GraphRecorder, tensors: Tensors, num_checks: int
    ) -> None:
        super().__init__(function, num_eager_calls, recorder)
        self._tensors = tensors
        self._last_check = num_eager_calls + num_checks
        self._is_eager = False

    def __call__(self, *inputs: Any, **flags: Hashable) -> Any:
        """Call the function: eagerly at first and after a failed check, else by replay."""
        if not self._is_eager:
            try:
                return super().__call__(*inputs, **flags)
            except CaptureFailed as error:  # nothing was executed
                self._fall_back(f"cannot be captured ({error})")
        return self._call_eagerly(inputs, flags)

    def _capture(self, inputs: tuple[Any, ...], flags: dict[str, Hashable]) -> Graph:
        try:
            return super()._capture(inputs, flags)
        except RuntimeError as error:
            raise CaptureFailed(first_line(error)) from error

    def _replay(self, variant: Hashable, inputs: tuple[Any, ...], flags: dict[str, Hashable]) -> Any:
        if self._num_calls[variant] > self._last_check:
            return super()._replay(variant, inputs, flags)
        tensors, random_state = self._tensors(), self._recorder.random_state()
        before = [x.clone() for x in tensors]
        replayed = super()._replay(variant, inputs, flags)
        after = [x.clone() for x in tensors]
        for x, earlier in zip(tensors, before, strict=True):
            x.copy_(earlier)
        self._recorder.set_random_state(random_state)
        expected = self._call_eagerly(inputs, flags)
        states_agree = all(map(changes_agree, after, tensors, before))
        if not states_agree or not _results_agree(replayed, expected):
            self._fall_back("gives other results than eager calls")
        return expected

    def _fall_back(self, reason: str) -> None:
        self._is_eager = True
        self._graphs.clear()
        warnings.warn(f"runtime: the CUDA graph {reason}; running eagerly", stacklevel=2)


@torch.no_grad()
def changes_agree(ours: Tensor, theirs: Tensor, before: Tensor) -> bool:
    """Whether two results of changing `before` differ by no more than rounding, amplified by Adam's division."""
    if not ours.is_floating_point():
        return torch.equal(ours, theirs)
    rounding = 10 * torch.finfo(ours.dtype).eps * theirs.norm()
    return bool((ours - theirs).norm() <= CHANGE_TOLERANCE * (theirs - before).norm() + rounding)


def _results_agree(ours: Any, theirs: Any) -> bool:
    """Whether two results of a function, each a tensor or a dictionary of tensors, differ by no more than rounding."""
    pairs = [(ours, theirs)] if isinstance(ours, Tensor) else [(ours[name], theirs[name]) for name in theirs]
    return all(torch.allclose(a, b, rtol=CHANGE_TOLERANCE, atol=1e-3, equal_nan=True) for a, b in pairs)


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
