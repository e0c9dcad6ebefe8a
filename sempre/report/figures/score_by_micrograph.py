"""How each micrograph is segmented: whether an arm is better everywhere, or on a few."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from sempre.report.palette import arm_styles

NAMED = 100  # micrographs; of more there is no room for names
LONGEST_NAME = 18  # letters


def score_by_micrograph(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """AJI+ of each micrograph, in the order of the last arm's, worst first; one sort of marker an arm.

    A grey line joins what the arms make of the same micrograph.

    Args:
        scores: of each arm, the AJI+ of the same micrographs by name.
    """
    last = list(scores)[-1]
    names = sorted(scores[last], key=scores[last].__getitem__)
    values = np.array([[of_arm[name] for name in names] for of_arm in scores.values()])
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    axes = figure.subplots()
    x = np.arange(len(names))
    size = 7 if len(names) <= NAMED // 3 else 4.5
    axes.vlines(x, values.min(axis=0), values.max(axis=0), color="0.8", linewidth=1.5, zorder=1)
    for (arm, style), of_arm in zip(arm_styles(scores).items(), values, strict=True):
        # What the order follows is a line; the others would zigzag.
        line = "-" if arm == last else "none"
        axes.plot(x, of_arm, **style, linestyle=line, linewidth=1, markersize=size, label=arm, alpha=0.85)
    if len(names) <= NAMED:
        axes.set_xticks(x, [_shortened(name) for name in names], rotation=90, fontsize=8 if len(names) <= 40 else 6)
    axes.set(xlim=(-0.7, len(names) - 0.3), ylim=(-0.03, 1.03), ylabel="AJI+")
    axes.set_xlabel(f"{len(names)} held-out micrographs, in the order of {last}")
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _shortened(name: str) -> str:
    """The name without its middle where it is long: names differ at their ends."""
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
