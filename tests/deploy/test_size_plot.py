import numpy as np
import pytest
from PIL import Image

from sempre.deploy.size_plot import MOST_BINS, logarithmic_bins, write_size_plot


@pytest.mark.parametrize("count", [1, 2, 500])
def test_writes_a_png(tmp_path, count):
    diameters = np.random.default_rng(0).lognormal(3, 0.5, count)
    write_size_plot(tmp_path / "sizes.png", diameters, "nm", micrographs=2)
    assert Image.open(tmp_path / "sizes.png").format == "PNG" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "diameters", [[7.0], [7.0] * 50, [1.1, 900.0], np.random.default_rng(0).lognormal(3, 0.5, 50000)]
)
def test_bins_hold_everything_and_have_equal_ratios(diameters):
    edges = logarithmic_bins(np.array(diameters))
    assert edges[0] <= min(diameters) * (1 + 1e-9) and edges[-1] >= max(diameters) * (1 - 1e-9)
    np.testing.assert_allclose(edges[1:] / edges[:-1], edges[1] / edges[0])
    assert 5 <= len(edges) - 1 <= MOST_BINS
    assert np.histogram(diameters, edges)[0].sum() == len(diameters)
