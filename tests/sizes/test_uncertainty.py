import numpy as np
import pytest
from scipy import stats

from sempre.sizes.borders import count
from sempre.sizes.comparison import compare, ks_distance
from sempre.sizes.distributions import describe
from sempre.sizes.uncertainty import (
    bootstrap,
    clopper_pearson,
    intervals,
    particles_needed,
    pixel_size_uncertainty,
    share_below,
)
from tests.sizes.fields import disc_field, log_normal, sample

LEAST_HELD = {  # the least share of intervals of 95 % that hold the true figure
    **dict.fromkeys(("D10", "D50", "D90", "mean", "geometric_mean"), 0.9),
    **dict.fromkeys(("D[3,2]", "DV10", "DV50"), 0.86),
    **dict.fromkeys(("GSD", "D[4,3]", "DV90"), 0.82),
}


def test_how_often_each_interval_holds_in_200_simulations():
    """Of ten micrographs that differ by 10 % among each other; intervals by volume and of GSD hold less often."""
    random, inside, simulations = np.random.default_rng(0), {}, 200
    true = log_normal(random, 60.0, 1.5, 400_000, 200.0)
    wanted = describe(true * np.exp(0.1 * random.standard_normal(len(true))), np.ones(len(true)))
    for number in range(simulations):
        made = sample(number, 60.0, 1.5, 0)
        fields = [disc_field(random, 60.0, 1.5, number=40, drift=0.1 * random.standard_normal()) for _ in range(10)]
        counted = count(type(made)("discs", "nm", fields))
        for name, interval in intervals(counted, bootstrap(counted, draws=200)).items():
            inside[name] = inside.get(name, 0) + (interval.low <= wanted[name] <= interval.high)
    for name, share in inside.items():
        assert LEAST_HELD[name] <= share / simulations <= 0.99, (name, inside)


def test_particles_of_one_micrograph_are_not_independent():
    """Ten micrographs of 400 particles each that differ by 10 %: drawing particles would say ten times too little."""
    random = np.random.default_rng(1)
    fields = [disc_field(random, 40.0, 1.3, number=400, drift=0.1 * random.standard_normal()) for _ in range(10)]
    counted = count(type(sample(0, 40.0, 1.3, 0))("discs", "nm", fields))
    interval = intervals(counted, bootstrap(counted))["D50"]
    assert interval.sampling == pytest.approx(0.1 / np.sqrt(10), rel=0.5)


def test_the_budget_adds_in_squares_and_spares_the_gsd():
    counted = count(sample(5, 50.0, 1.4, 6))
    drawn = bootstrap(counted)
    without, both = intervals(counted, drawn), intervals(counted, drawn, pixel_size=0.05)
    half = {name: np.log(one["D50"].high / one["D50"].value) for name, one in (("a", without), ("b", both))}
    assert half["b"] == pytest.approx(np.hypot(half["a"], 1.96 * 0.05), rel=1e-3)
    assert both["GSD"] == without["GSD"]


def test_pixel_sizes_are_as_sure_as_their_source():
    assert pixel_size_uncertainty("metadata") == pytest.approx(0.03 / 3**0.5)
    assert (
        pixel_size_uncertainty("scale bar, 500 nm on 20.0 px")
        > pixel_size_uncertainty("scale bar, 500 nm on 200.0 px")
        > pixel_size_uncertainty("metadata")
    )
    assert pixel_size_uncertainty("metadata", 0.004) == 0.004


@pytest.mark.parametrize(("positive", "number"), [(0, 20), (20, 20), (3, 40), (17, 90)])
def test_limits_of_a_share_are_scipys(positive, number):
    limits = stats.binomtest(positive, number).proportion_ci(0.95, "exact")
    assert clopper_pearson(positive, number) == pytest.approx((limits.low, limits.high))


def test_a_share_of_nothing_and_of_all_has_an_interval():
    counted = count(sample(6, 50.0, 1.2, 5))
    none, every = share_below(counted, 1.0), share_below(counted, 1e4)
    assert none.value == none.low == 0 and 0 < none.high < 0.1
    assert every.value == every.high == 1 and 0.9 < every.low < 1


@pytest.mark.parametrize(("gsd", "power"), [(1.2, 0), (1.5, 0), (1.3, 3), (1.5, 3)])
def test_so_many_particles_give_the_median_within_five_per_cent(gsd, power):
    number = round(particles_needed(gsd, power=power))
    random, sigma = np.random.default_rng(0), np.log(gsd)
    logs = sigma * random.standard_normal((1000, number))
    weights = np.exp(power * logs)
    estimate = (weights * logs).sum(axis=1) / weights.sum(axis=1)
    within = np.abs(np.expm1(estimate - power * sigma**2)) <= 0.05
    assert 0.92 <= within.mean() <= 0.975


def test_samples_that_differ_are_told_and_others_are_not():
    one, same, larger = (count(sample(seed, median, 1.3, 8)) for seed, median in ((1, 50.0), (2, 50.0), (3, 60.0)))
    drawn = {id(each): bootstrap(each) for each in (one, same, larger)}
    alike = compare(("one", "same"), (one, same), (drawn[id(one)], drawn[id(same)]))
    differs = compare(("one", "larger"), (one, larger), (drawn[id(one)], drawn[id(larger)]))
    assert alike.ratio["D50"][1] < 1 < alike.ratio["D50"][2] and alike.distance_p > 0.05
    assert 1 < differs.ratio["D50"][1] < 1.2 < differs.ratio["D50"][2] and differs.distance_p < 0.01
    assert differs.mann_whitney_p < 0.01


def test_the_distance_is_scipys():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 30, 200).astype(float), random.integers(3, 40, 150).astype(float)
    found = ks_distance(first, np.ones(200), second, np.ones(150))
    assert found == pytest.approx(stats.ks_2samp(first, second).statistic)
