"""Copies of rows and between devices, as fast as the hardware allows."""

from __future__ import annotations

import torch
from torch import Tensor

INTEGER_TYPES = (torch.int64, torch.int32, torch.int16, torch.uint8)


def gather_rows(table: Tensor, index: Tensor, pin_memory: bool = False) -> Tensor:
    """Rows `index` (B,) int64 of `table` (capacity, N) uint8 -> (B, N), optionally in pinned memory.

    Each row is one contiguous copy, in the widest integers whose size divides N: on a CPU PyTorch splits the copy of
    every row of 32 768 elements or more between threads, and on a GPU a thread copies one element.
    """
    integer = next(dtype for dtype in INTEGER_TYPES if table.shape[1] % dtype.itemsize == 0)
    words = table.view(integer)
    shape = len(index), words.shape[1]
    rows = torch.empty(shape, dtype=integer, device=table.device, pin_memory=pin_memory)
    return torch.index_select(words, 0, index, out=rows).view(torch.uint8)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """`x` on `device`; from the host to CUDA through pinned memory, so that the host does not wait."""
    if x.device.type == "cpu" and device.type == "cuda":
        x = x.pin_memory()  # PyTorch reuses that memory only after the copy
    return x.to(device, non_blocking=True)
