import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.training.optimisation import cosine_with_warmup, steps_with_warmup


def test_the_rate_warms_up_and_falls_tenfold_at_each_milestone():
    rates = [steps_with_warmup(step, total=100, warmup=4, peak=0.8) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert rates[59:61] == pytest.approx([0.8, 0.08])
    assert rates[79:81] == pytest.approx([0.08, 0.008])
    assert rates[99] == pytest.approx(0.008)


def test_the_cosine_falls_to_its_end():
    rates = [cosine_with_warmup(step, total=100, warmup=10, peak=1.0, final=0.1) for step in range(101)]
    assert rates[9:11] == pytest.approx([1.0, 1.0])
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


@given(
    st.integers(0, 500),
    st.integers(1, 400),
    st.integers(0, 50),
    st.sampled_from([cosine_with_warmup, steps_with_warmup]),
)
def test_rates_lie_between_nothing_and_the_peak(step, total, warmup, schedule):
    rate = schedule(step, total, warmup, 0.3)
    assert math.isfinite(rate)
    assert 0 <= rate <= 0.3
