import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from sempre.segmentation.calibration import (
    FEATURES,
    Calibration,
    Evidence,
    diameter_intervals,
    is_doubtful,
    look_closer,
    probabilities,
    read_calibration,
    shifts,
)
from sempre.segmentation.decode import Decoding

CALIBRATION = Calibration((-9.0, 3.0, 1.0, 0.5, 4.0), -0.8, 1.2)


def soft_disc(radius, softness, side=96):
    """The maps `[2, side / 2, side / 2]` of a disc whose probability falls over `softness` px, and its labels."""
    y, x = np.mgrid[:side, :side] + 0.5
    inside = radius - np.hypot(x - side / 2, y - side / 2)
    y, x = 2 * (np.mgrid[: side // 2, : side // 2] + 0.5)
    coarse = radius - np.hypot(x - side / 2, y - side / 2)
    maps = np.stack([expit(coarse / softness), np.clip(coarse / radius, 0, 1)]).astype(np.float32)
    return maps, (inside > 0).astype(np.int32)


@pytest.mark.parametrize("softness", [0.5, 1.0, 3.0])
def test_the_outline_shifts_as_far_as_the_probability_is_soft(softness):
    maps, labels = soft_disc(30, softness)
    evidence = look_closer(labels, maps, 1, Decoding(foreground=0.5))
    moved = softness * np.log(3)  # px inwards from a probability of 1/2 to one of 3/4
    assert np.sqrt(evidence.inner[0] / np.pi) == pytest.approx(30 - moved, abs=0.35)
    assert shifts(np.array([labels.sum()]), evidence)[0] == pytest.approx((moved + 0.25) / 30, abs=0.015)
    assert evidence.depth[0] == pytest.approx(1, abs=0.05)


def test_of_several_particles_each_has_its_own_evidence():
    sharp, label = soft_disc(30, 0.5)
    soft, _ = soft_disc(30, 3.0)
    labels = np.concatenate([label, 2 * label], axis=1)
    evidence = look_closer(labels, np.concatenate([sharp, soft], axis=2), 2, Decoding(foreground=0.5))
    alone = [look_closer(label, maps, 1, Decoding(foreground=0.5)).inner[0] for maps in (sharp, soft)]
    assert evidence.inner.tolist() == alone


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 10**7), st.floats(0, 1), st.floats(0, 1.5))
def test_whatever_is_seen_the_numbers_can_be(score, area, share, depth):
    evidence = Evidence(np.array([int(share * area)]), np.array([depth], np.float32))
    real = probabilities(CALIBRATION, np.array([score]), np.array([area]), evidence)
    low, high = diameter_intervals(CALIBRATION, np.array([area]), evidence)
    assert 0 <= real[0] <= 1
    assert 0 < low[0] <= np.sqrt(4 * area / np.pi) <= high[0] < np.inf


def test_softer_outlines_have_wider_intervals():
    low, high = diameter_intervals(CALIBRATION, np.array([700, 700]), Evidence(np.array([650, 500]), np.ones(2)))
    assert low[1] < low[0] < np.sqrt(4 * 700 / np.pi) < high[0] < high[1]


def test_no_particles_are_not_doubted_and_have_nothing_to_be_trusted():
    assert not is_doubtful(np.zeros(0))
    nobody = Evidence(np.zeros(0), np.zeros(0))
    assert len(probabilities(CALIBRATION, np.zeros(0), np.zeros(0), nobody)) == 0


@pytest.mark.parametrize(
    "change", [{"weights": [1.0]}, {"weights": [float("nan")] * 5}, {"interval": [1.0, -1.0]}, {"interval": [0.0]}]
)
def test_calibrations_that_cannot_be_are_refused(change):
    with pytest.raises((ValueError, TypeError)):
        read_calibration({"weights": [0.0] * len(FEATURES), "interval": [-1.0, 1.0]} | change)
