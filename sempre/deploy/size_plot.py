"""The size distribution of a batch of micrographs as a figure."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from sempre.deploy.formats import SIZE_PLOT, result_paths
from sempre.deploy.pages import read_diameters
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


def plot_sizes(out: Path, rows: list[dict[str, str]]) -> list[str]:
    """Plot the sizes that the tables of a summary's rows list, in nm if any pixel size is known, else in px.

    Pixels of different micrographs may be of different sizes. So where some pixel sizes are known, the particles of the
    other micrographs are left out, and these are named. Particles that a border cuts are left out, too. Where none
    remain there is no plot.

    Returns:
        The micrographs with whole particles that are left out, because their pixel size is not known.

    Raises:
        InputError: for a table that is damaged.
        OSError: for one that cannot be read, or a plot that cannot be written.
    """
    tables = {row["results"]: result_paths(out / row["results"], ("csv",))[0] for row in rows if not row["error"]}
    listed = [row for row in rows if row["results"] in tables and tables[row["results"]].is_file()]
    scaled = [row for row in listed if row["pixel_size_nm"]]
    unit, shown = ("nm", scaled) if any(map(_whole_particles, scaled)) else ("px", listed)
    diameters = [read_diameters(tables[row["results"]], unit) for row in shown if _whole_particles(row)]
    if not sum(map(len, diameters)):
        (out / SIZE_PLOT).unlink(missing_ok=True)  # an earlier batch's would be taken for this one's
        return []
    cut = sum(int(row["particles_cut"]) for row in shown)
    write_size_plot(out / SIZE_PLOT, np.concatenate(diameters), unit, len(shown), cut)
    return [row["micrograph"] for row in listed if row not in shown and _whole_particles(row)]


def _whole_particles(row: dict[str, str]) -> int:
    return int(row["particles"]) - int(row["particles_cut"])
