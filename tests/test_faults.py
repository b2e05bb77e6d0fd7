"""A few faults of each kind; `make test-faults` tries many."""

from __future__ import annotations

import pytest

from tests.fault_injection import Faults

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    "fault",
    [
        "kill_while_writing",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("kill_at_random", "terminate_while_filming", "poison", "kill_encoder")
        ),
    ],
)
def test_no_run_is_lost(faults, fault):
    assert getattr(faults, fault)(), faults.lost


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_damaged_file_loses_no_run(faults, number):
    assert faults.corrupt(), faults.lost


@pytest.mark.slow
def test_a_full_disk_stops_training_with_a_line(faults):
    survived = faults.fill_disk()
    if survived is None:
        pytest.skip("no small file system can be mounted here: that needs root")
    assert survived, faults.lost
