import pytest

from drq_sn.checks import InvalidInput
from drq_sn.schedules import Constant, Linear


@pytest.mark.parametrize(("step", "value"), [(0, 1.0), (25_000, 0.775), (50_000, 0.55), (100_000, 0.1), (10**9, 0.1)])
def test_linear_by_hand(step, value):
    assert Linear(1.0, 0.1, 100_000)(step) == pytest.approx(value, abs=1e-12)


def test_constant():
    assert Constant(0.4)(0) == Constant(0.4)(10**6) == 0.4


def test_a_duration_of_nothing_is_refused():
    with pytest.raises(InvalidInput, match="duration_steps=0"):
        Linear(1.0, 0.1, 0)
