"""The size distribution of a batch of micrographs as a figure."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from sempre.files import ORIGIN, whole_or_absent

MOST_BINS = 60


def write_size_plot(path: str | Path, diameters: np.ndarray, unit: str, micrographs: int, cut: int = 0) -> None:
    """Draw the histogram of equivalent diameters `[N]`, N >= 1, over their logarithm, as a PNG. Whole or absent.

    Args:
        path: of the PNG.
        diameters: in `unit`, all above 0.
        unit: "nm" or "px".
        micrographs: how many the particles come from.
        cut: how many particles more a border cuts, whose sizes are not among the diameters.
    """
    path = Path(path)
    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(diameters, bins=logarithmic_bins(diameters).tolist(), color="#4477aa", edgecolor="white", linewidth=0.4)
    lower, median, upper = np.percentile(diameters, (25, 50, 75))
    axes.axvspan(
        lower, upper, color="#bbbbbb", alpha=0.35, zorder=0, label=f"quartiles {lower:.4g} to {upper:.4g} {unit}"
    )
    axes.axvline(median, color="#cc3311", linewidth=1.5, label=f"median {median:.4g} {unit}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"equivalent diameter ({unit})")
    axes.set_ylabel("particles")
    images = "micrograph" if micrographs == 1 else "micrographs"
    particles = "particle" if len(diameters) == 1 else "particles"
    without = f", without {cut:,} that a border cuts" if cut else ""
    axes.set_title(f"{len(diameters):,} {particles} in {micrographs:,} {images}{without}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with whole_or_absent(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": ORIGIN})


def logarithmic_bins(diameters: np.ndarray) -> np.ndarray:
    """Bin edges of equal ratio over the range of `diameters`, as wide as Freedman and Diaconis advise, in logarithms.

    "On the histogram as a density estimator: L2 theory", 1981.
    """
    low, high = float(diameters.min()), float(diameters.max())
    if high < 1.01 * low:  # all of one size
        low, high = 0.9 * low, 1.1 * high
    advised = len(np.histogram_bin_edges(np.log10(diameters), bins="fd", range=(np.log10(low), np.log10(high)))) - 1
    return np.geomspace(low, high, int(np.clip(advised, 5, MOST_BINS)) + 1)  # the ends are exact
