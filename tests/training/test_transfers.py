"""Rows are gathered as they are, in the widest integers."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from drq_sn.training.transfers import gather_rows, to_device


class GatheredTypes(TorchDispatchMode):
    """Collects the type of every table that rows are selected from."""

    def __init__(self):
        super().__init__()
        self.types = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.index_select.out:
            self.types.append(args[0].dtype)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(
    ("row_bytes", "integer"),
    [(84 * 84 * 3, torch.int64), (90 * 90 * 3, torch.int32), (6, torch.int16), (85 * 85 * 3, torch.uint8)],
)
def test_rows_are_gathered_unchanged_in_the_widest_integers(row_bytes, integer):
    table = torch.randint(0, 256, (10, row_bytes), dtype=torch.uint8)
    index = torch.tensor([7, 0, 0, 9])
    with GatheredTypes() as gathered:
        rows = gather_rows(table, index)
    assert gathered.types == [integer]
    assert torch.equal(rows, table[index])


def test_a_tensor_that_is_there_is_not_copied():
    x = torch.ones(3)
    assert to_device(x, torch.device("cpu")) is x


@pytest.mark.gpu
def test_a_copy_to_a_gpu_survives_the_reuse_of_the_host_memory():
    copies = [to_device(torch.full((1 << 20,), float(k)), torch.device("cuda")) for k in range(20)]
    assert [float(x.min()) for x in copies] == [float(x.max()) for x in copies] == list(range(20))
