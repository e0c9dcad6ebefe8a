"""Training curves."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from sempre.training.runs.logging import read_log


def loss_curves(logs: Mapping[str, Path], title: str, colours: Mapping[str, object] | None = None) -> Figure:
    """The loss over the steps of each `log.jsonl`; a validation loss, where there is one, is dashed.

    `colours` by the logs' names are matplotlib's; without them its cycle is used.
    """
    figure = Figure(figsize=(6.0, 3.2))
    axes = figure.subplots()
    for number, (name, path) in enumerate(logs.items()):
        colour = colours[name] if colours else f"C{number}"
        lines = read_log(path)
        for kind, style in (("train", "-"), ("validation", "--")):
            points = [(line["step"], line["loss"]) for line in lines if line["kind"] == kind]
            if points:
                label = name if kind == "train" else f"{name}, validation"
                marker = "." if len(points) == 1 else None
                axes.plot(*zip(*points, strict=True), style, marker=marker, color=colour, label=label, linewidth=1.3)
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
