import numpy as np
import pytest

from sempre.sizes.borders import Field, Sample, count, frame_of_field, whole_probability
from sempre.sizes.distributions import describe
from tests.sizes.fields import log_normal, sample


def test_the_probability_is_that_of_a_box_thrown_at_random():
    random = np.random.default_rng(0)
    x, y = random.uniform(0, 100, 200_000), random.uniform(0, 80, 200_000)
    whole = (x + 30 <= 100) & (y + 25 <= 80)  # of a box's corner in the frame
    p = whole_probability(np.array([30.0]), np.array([25.0]), 100.0, 80.0)
    assert p[0] == pytest.approx(whole.mean(), abs=0.005)


def test_the_frame_counts_the_places_of_a_box_on_the_grid():
    columns, rows, a, b = 12, 9, 4, 3
    places = [
        (x, y) for x in range(columns) for y in range(rows) if x > 0 and x + a < columns and y > 0 and y + b < rows
    ]
    width, height = frame_of_field(columns, rows)
    assert (width - a) * (height - b) == len(places)


@pytest.mark.parametrize("gsd", [1.1, 1.5, 2.0])
def test_the_weighted_rule_is_without_bias_where_the_plain_ones_are_not(gsd):
    """Medians of 1/12 of the side, the largest of a fifth of it: 40,000 particles, so that chance is small."""
    made = sample(3, 83.0, gsd, 400)
    true = log_normal(np.random.default_rng(9), 83.0, gsd, 400_000, 200.0)
    d50, d43 = np.median(true), (true**4).sum() / (true**3).sum()
    weighted, everything = (describe(one.diameter, one.weight) for one in (count(made), count(made, "all")))
    whole = count(made)
    unweighted = describe(whole.diameter, np.ones(len(whole)))
    assert weighted["D50"] == pytest.approx(d50, rel=0.02)
    assert weighted["D[4,3]"] == pytest.approx(d43, rel=0.02)
    off = {
        name: (one["D50"] / d50 - 1, one["D[4,3]"] / d43 - 1)
        for name, one in (("all", everything), ("whole", unweighted))
    }
    assert abs(off["all"][0]) > 0.02 and abs(off["all"][0]) > abs(weighted["D50"] / d50 - 1)
    if gsd > 1.2:
        assert off["whole"][0] < -0.015 and off["whole"][1] < -0.01


def test_small_particles_are_left_out_and_counted_by_their_size_in_px():
    sizes = np.array([2.0, 10.0, 30.0])
    field = Field("a", 100, 100, 2.0, sizes, sizes, sizes, sizes, np.array([False, False, True]))
    counted = count(Sample("a", "nm", [field]), "all", smallest_px=3)
    assert (len(counted), counted.small, counted.cut, counted.found) == (2, 1, 1, 3)
    assert len(count(Sample("a", "nm", [field]), "weighted", 3)) == 1
