"""Runtimes: how updates and actions are executed (eagerly, compiled, or as CUDA graphs).

A function fit for every runtime takes tensors and named tuples of tensors as positional arguments
and hashable flags by keyword, reads and writes no tensors but these and its owner's, never waits for
the device, and returns a tensor or a dictionary of 0-d tensors.
"""

from __future__ import annotations

import os
import shutil
from typing import Protocol

import torch

from drq_sn import validation
from drq_sn.agents.graphs import CheckedGraphs, CudaRecorder, Function, Graphed, Tensors

COMPILERS = {"cpu": ("g++", "clang++"), "cuda": ("gcc", "clang", "cc")}


class Runtime(Protocol):
    """A way to execute functions.

    Attributes:
        captures: whether it captures functions, which must then draw no random numbers on the host.
        compiles: whether it compiles functions, which must then take no second derivatives.
        is_optional: whether a function that it cannot execute may run eagerly instead.
    """

    captures: bool
    compiles: bool
    is_optional: bool

    def __call__(self, function: Function, device: torch.device, tensors: Tensors) -> Function:
        """Return a function that computes the same on `device`.

        Raises:
            InvalidInput: if this machine cannot.
        """


class Eager:
    """One operation after the other, as written."""

    captures = compiles = is_optional = False

    def __call__(self, function: Function, device: torch.device, tensors: Tensors) -> Function:
        """Return `function` itself."""
        del device, tensors
        return function


class Compiled:
    """`torch.compile`: fused kernels, generated at the first call of each variant (a minute on two cores).

    Random numbers are those of eager PyTorch.
    """

    captures, compiles, is_optional = False, True, False

    def __call__(self, function: Function, device: torch.device, tensors: Tensors) -> Function:
        """Return `function`, compiled for `device`."""
        del tensors
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

    captures, compiles, is_optional = True, False, False

    def __init__(self, num_eager_calls: int = 3) -> None:
        self.num_eager_calls = validation.integer("runtime.num_eager_calls", num_eager_calls)

    def __call__(self, function: Function, device: torch.device, tensors: Tensors) -> Function:
        """Return `function`, captured after its first calls."""
        del tensors
        if device.type != "cuda":
            raise validation.InvalidInput(f"runtime: CUDA graphs need a CUDA device, got {device}; use runtime=eager")
        return Graphed(function, self.num_eager_calls, CudaRecorder(device))


class CompiledCudaGraph(CudaGraph):
    """Compiled functions, captured: few kernels and one launch.

    Args:
        num_eager_calls: calls of a variant before its capture; the first of them compiles it.
    """

    compiles = True

    def __call__(self, function: Function, device: torch.device, tensors: Tensors) -> Function:
        """Return `function`, compiled, and captured after its first calls."""
        compiled = Compiled()(function, device, tensors) if device.type == "cuda" else function
        return super().__call__(compiled, device, tensors)


class Auto:
    """CUDA graphs that are compared with eager calls at first; eager where they differ or there is no CUDA device.

    Args:
        num_eager_calls: calls of a variant before its capture.
        num_checks: first replays of a variant that are compared.
    """

    captures, compiles, is_optional = True, False, True

    def __init__(self, num_eager_calls: int = 3, num_checks: int = 3) -> None:
        self.num_eager_calls = validation.integer("runtime.num_eager_calls", num_eager_calls)
        self.num_checks = validation.integer("runtime.num_checks", num_checks)

    def __call__(self, function: Function, device: torch.device, tensors: Tensors) -> Function:
        """Return `function`, captured after its first calls if `device` is a CUDA device."""
        if device.type != "cuda":
            return function
        return CheckedGraphs(function, self.num_eager_calls, CudaRecorder(device), tensors, self.num_checks)
