import numpy as np
import pytest
from scipy import stats

from sempre.sizes.distributions import class_edges, describe, quantile, tabulate
from sempre.sizes.fits import fit_models


@pytest.fixture
def sizes():
    return stats.lognorm(0.4, scale=50).rvs(3000, random_state=0)


def test_quantiles_are_hazens_and_weights_are_repetitions(sizes):
    shares = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantile(sizes, np.ones(3000), shares), np.quantile(sizes, shares, method="hazen"))
    weights = np.random.default_rng(0).integers(1, 5, 3000)
    np.testing.assert_allclose(
        quantile(sizes, weights, shares), np.quantile(np.repeat(sizes, weights), shares, method="hazen"), rtol=2e-3
    )


def test_figures_are_those_of_repeated_particles(sizes):
    weights = np.random.default_rng(1).integers(1, 4, 3000)
    found, repeated = describe(sizes, weights.astype(float)), np.repeat(sizes, weights)
    assert found["mean"] == pytest.approx(np.mean(repeated))
    assert found["standard_deviation"] == pytest.approx(np.std(repeated))
    assert found["geometric_mean"] == pytest.approx(stats.gmean(repeated))
    assert found["GSD"] == pytest.approx(stats.gstd(repeated, ddof=0))
    assert found["D[3,2]"] == pytest.approx(sum(d**3 for d in repeated) / sum(d**2 for d in repeated))
    assert found["D[4,3]"] == pytest.approx(sum(d**4 for d in repeated) / sum(d**3 for d in repeated))


def test_volume_figures_of_a_log_normal_follow_hatch_and_choate():
    sizes = stats.lognorm(0.2, scale=50).rvs(400_000, random_state=0)
    found = describe(sizes, np.ones(len(sizes)))
    assert found["DV50"] == pytest.approx(50 * np.exp(3 * 0.2**2), rel=0.005)
    assert found["D[4,3]"] == pytest.approx(50 * np.exp(3.5 * 0.2**2), rel=0.005)
    assert found["mode"] == pytest.approx(50 * np.exp(-(0.2**2)), rel=0.03)


def test_classes_hold_every_particle_and_densities_integrate_to_one(sizes):
    edges = class_edges(sizes)
    table = tabulate(sizes, np.ones(3000), edges)
    assert table.particles.sum() == 3000
    for power in (0, 2, 3):
        assert (table.density[power] * np.diff(edges)).sum() == pytest.approx(1)
        below = sizes <= edges[5]
        assert table.cumulative[power][4] == pytest.approx((sizes[below] ** power).sum() / (sizes**power).sum())


def test_one_size_has_classes_and_a_mode():
    found = describe(np.full(4, 7.0), np.ones(4))
    assert found["mode"] == found["D50"] == 7.0 and found["GSD"] == 1.0
    assert tabulate(np.full(4, 7.0), np.ones(4), class_edges(np.full(4, 7.0))).particles.sum() == 4
    assert fit_models(np.full(4, 7.0), np.ones(4)) == []


def test_parameters_are_those_of_scipy():
    sizes = stats.weibull_min(2.3, scale=40).rvs(2000, random_state=1)
    fits = {fit.model: fit.parameters for fit in fit_models(sizes, np.ones(2000))}
    n, _, x63 = stats.weibull_min.fit(sizes, floc=0)
    assert fits["Rosin-Rammler"]["n"] == pytest.approx(n, rel=1e-3)
    assert fits["Rosin-Rammler"]["x63"] == pytest.approx(x63, rel=1e-3)
    assert tuple(fits["normal"].values()) == pytest.approx(stats.norm.fit(sizes))
    s, _, scale = stats.lognorm.fit(sizes, floc=0)
    assert tuple(fits["log-normal"].values()) == pytest.approx((scale, np.exp(s)), rel=1e-3)
    m, _, _ = stats.powerlaw.fit(sizes, floc=0, fscale=sizes.max())
    assert fits["Gates-Gaudin-Schuhmann"]["m"] == pytest.approx(m, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "distribution"),
    [
        ("normal", stats.norm(50, 8)),
        ("log-normal", stats.lognorm(0.5, scale=50)),
        ("Rosin-Rammler", stats.weibull_min(1.4, scale=50)),
        ("Gates-Gaudin-Schuhmann", stats.powerlaw(0.7, scale=50)),
    ],
)
def test_the_model_that_made_the_sizes_suits_best(model, distribution):
    sizes = distribution.rvs(4000, random_state=2)
    best = fit_models(sizes, np.ones(4000))[0]
    assert best.model == model and best.largest < 0.03
    assert best.largest == pytest.approx(stats.kstest(sizes, best.distribution.cdf).statistic)
