"""Which sizes of particles are found, and which are invented."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from sempre.metrics import size_bin_names
from sempre.report.palette import arm_styles

FEW = 10  # true instances; of fewer a recall says little, and its marker is hollow
DODGE = 0.07  # of a bin's width, between the markers of two arms


def recall_by_size(size_bins: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Recall over the true instances' size, one line an arm; below it false positives over their own size.

    Args:
        size_bins: of each arm, its counts as `sempre.metrics.count_by_size` gives them, or their means over repeats.
            Bins that are empty at either end are not shown.
    """
    counted = {arm: {name: np.asarray(bins[name], float) for name in bins} for arm, bins in size_bins.items()}
    any_in_bin = np.sum([bins["true"] + bins["false_positives"] for bins in counted.values()], axis=0) > 0
    shown = np.arange(any_in_bin.argmax(), len(any_in_bin) - any_in_bin[::-1].argmax())
    true = next(iter(counted.values()))["true"]
    figure = Figure(figsize=(8.2, 5.4), layout="constrained")
    recall_axes, false_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for number, (arm, style) in enumerate(arm_styles(counted).items()):
        bins = counted[arm]
        x = shown + DODGE * (number - (len(counted) - 1) / 2)
        recall = np.divide(bins["found"], bins["true"], out=np.full(len(true), np.nan), where=bins["true"] > 0)
        recall_axes.plot(x, recall[shown], **style, label=arm, linewidth=1.3, markersize=7)
        few = shown[(true > 0)[shown] & (true < FEW)[shown]]
        hollow = {**style, "markerfacecolor": "white", "linestyle": "none", "markersize": 7}
        recall_axes.plot(x[few - shown[0]], recall[few], **hollow)
        false_axes.plot(x, bins["false_positives"][shown], **style, linewidth=1.3, markersize=7)
    names = size_bin_names()
    false_axes.set_xticks(shown, [f"{names[k]} px\n{true[k]:.0f} true" for k in shown])
    false_axes.set(xlabel="equivalent diameter, and how many true instances there are", ylabel="false positives")
    false_axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    false_axes.set_ylim(bottom=0)
    recall_axes.set(ylim=(-0.03, 1.03), ylabel="recall")
    for axes in (recall_axes, false_axes):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure
