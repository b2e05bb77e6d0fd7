import pytest

from drq_sn.training.schedules import Constant, CosineToZero, Linear, LinearToZero
from drq_sn.validation import InvalidInput


@pytest.mark.parametrize(("step", "value"), [(0, 1.0), (25_000, 0.775), (50_000, 0.55), (100_000, 0.1), (10**9, 0.1)])
def test_linear_by_hand(step, value):
    assert Linear(1.0, 0.1, 100_000)(step) == pytest.approx(value, abs=1e-12)


def test_constant():
    assert Constant(0.4)(0) == Constant(0.4)(10**6) == 0.4


def test_a_duration_of_nothing_is_refused():
    with pytest.raises(InvalidInput, match="duration_steps must be"):
        Linear(1.0, 0.1, 0)


@pytest.mark.parametrize(
    ("step", "linear", "cosine"), [(0, 1.0, 1.0), (500, 0.5, 0.5), (250, 0.75, 0.853553390593), (1000, 0, 0)]
)
def test_decays_to_zero_by_hand(step, linear, cosine):
    """2000 frames are 1000 steps; the cosine stands at (1 + cos(pi / 4)) / 2 after a quarter."""
    assert LinearToZero(2000, 2)(step) == pytest.approx(linear, abs=1e-12)
    assert CosineToZero(2000, 2)(step) == pytest.approx(cosine, abs=1e-12)


def test_decays_may_end_before_the_run():
    assert LinearToZero(2000, 2, end=0.5)(250) == pytest.approx(0.5)
    assert LinearToZero(2000, 2, end=0.5)(700) == 0.0


def test_a_share_outside_the_run_is_refused():
    with pytest.raises(InvalidInput, match=r"^\.end must be a number > 0 and <= 1, got 1.5"):
        LinearToZero(2000, 2, end=1.5)


@pytest.mark.parametrize(("step", "value"), [(0, 1.0), (5000, 1.0), (127_500, 0.505), (250_000, 0.01), (10**7, 0.01)])
def test_linear_may_start_later(step, value):
    assert Linear(1.0, 0.01, 245_000, start_step=5000)(step) == pytest.approx(value, abs=1e-12)
