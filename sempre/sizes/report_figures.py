"""The figures of a report on sizes, at a journal's column widths: 85 mm for one column, 180 mm for two."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from sempre.sizes.analysis import Result
from sempre.sizes.distributions import TYPES
from sempre.sizes.fits import MODELS
from sempre.sizes.uncertainty import LEVEL

COLUMN, PAGE = 85 / 25.4, 180 / 25.4  # inches
DPI = 220
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222222")
STYLE: Any = {
    "font.size": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "legend.fontsize": 6,
}


def _figure(width: float, height: float, panels: int = 1):
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(width=0.6, length=2.5)
    return figure, axes


def _size_axis(axes, unit: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"equivalent diameter ({unit})")


def draw_distribution(result: Result, cumulative: bool = False) -> Figure:
    """By number, area and volume, a panel each: the share of each class, or the cumulative curve with D10, D50, D90."""
    with rc_context(STYLE):
        figure, axes = _figure(PAGE, 52 / 25.4, len(TYPES))
        table, counted = result.table, result.counted
        order = np.argsort(counted.diameter)
        for panel, (power, name) in zip(axes, TYPES.items(), strict=True):
            if cumulative:
                amounts = (counted.weight * counted.diameter**power)[order]
                shares = np.cumsum(amounts) / amounts.sum()
                panel.step(counted.diameter[order], shares, where="post", color=COLOURS[0])
                panel.set_ylim(0, 1)
                for level in (0.1, 0.5, 0.9):
                    panel.axhline(level, color="#cccccc", linewidth=0.5, zorder=0)
                panel.set_ylabel(f"$Q_{power}$ (by {name})")
            else:
                shares = table.density[power] * np.diff(table.edges)
                panel.stairs(100 * shares, table.edges, fill=True, color=COLOURS[0], alpha=0.85)
                panel.set_ylabel(f"share by {name} (%)")
            _size_axis(panel, result.sample.unit)
        if not cumulative:
            interval = result.intervals["D50"]
            axes[0].axvspan(interval.low, interval.high, color=COLOURS[1], alpha=0.25, linewidth=0)
            axes[0].axvline(interval.value, color=COLOURS[1], label=f"D50, {LEVEL:.0%} interval")
            axes[0].legend(loc="upper left")
    return figure


def draw_fits(result: Result, power: int) -> Figure:
    """The measured cumulative curve with the fitted models, and the residuals."""
    with rc_context(STYLE):
        figure, (curve, residual) = _figure(PAGE, 58 / 25.4, 2)
        counted = result.counted
        order = np.argsort(counted.diameter)
        sizes = counted.diameter[order]
        amounts = (counted.weight * counted.diameter**power)[order]
        measured = (np.cumsum(amounts) - amounts / 2) / amounts.sum()
        curve.plot(sizes, measured, ".", color="#888888", markersize=2, label="measured")
        grid = np.geomspace(sizes[0], sizes[-1], 300)
        for fit in result.fits[power]:
            colour = COLOURS[MODELS.index(fit.model)]
            curve.plot(grid, fit.distribution.cdf(grid), color=colour, label=fit.model)
            residual.plot(sizes, measured - fit.distribution.cdf(sizes), color=colour)
        residual.axhline(0, color="#888888", linewidth=0.5)
        curve.set_ylabel(f"$Q_{power}$ (by {TYPES[power]})")
        residual.set_ylabel("measured − model")
        curve.legend(loc="upper left")
        for panel in (curve, residual):
            _size_axis(panel, result.sample.unit)
    return figure


def draw_settling(result: Result) -> Figure:
    """D50 of the first micrographs of random orders: the mean, and the band of 90 % of them."""
    with rc_context(STYLE):
        figure, (axes,) = _figure(COLUMN, 55 / 25.4)
        settled = result.settling
        axes.fill_between(settled.micrographs, settled.low, settled.high, color=COLOURS[0], alpha=0.25, linewidth=0)
        axes.plot(settled.micrographs, settled.mean, color=COLOURS[0], marker=".", markersize=3)
        last = settled.mean[-1]
        axes.axhspan(0.95 * last, 1.05 * last, color="#dddddd", zorder=0, label="± 5 %")
        axes.set_xlabel("micrographs")
        axes.set_ylabel(f"D50 ({result.sample.unit})")
        axes.legend(loc="upper right")
    return figure


def draw_overlaid(results: Sequence[Result]) -> Figure:
    """The cumulative curves of samples by number and by volume."""
    with rc_context(STYLE):
        figure, axes = _figure(PAGE, 62 / 25.4, 2)
        for panel, power in zip(axes, (0, 3), strict=True):
            for number, result in enumerate(results):
                counted = result.counted
                order = np.argsort(counted.diameter)
                amounts = (counted.weight * counted.diameter**power)[order]
                panel.step(
                    counted.diameter[order],
                    np.cumsum(amounts) / amounts.sum(),
                    where="post",
                    color=COLOURS[number % len(COLOURS)],
                    label=result.sample.name,
                )
            panel.set_ylim(0, 1)
            panel.set_ylabel(f"$Q_{power}$ (by {TYPES[power]})")
            _size_axis(panel, results[0].sample.unit)
        axes[0].legend(loc="upper left")
    return figure
