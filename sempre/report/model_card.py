"""The card of the model that comes with sempre: what it was trained on, what it scores, and what it is not for."""

import os
import platform
from collections.abc import Mapping, Sequence

import numpy as np

import sempre
from sempre.metrics import size_bin_names

CARD = """# The model `particles`

A dense segmenter of particles in electron micrographs (sempre {version}, {architecture}): `sempre segment` runs it
unless told otherwise; `python finetune/dense.py data=my_set start=particles` goes on from it.

**Trained on** {source}{further}, without the micrographs that are held out, and on {renders} fields that
`data/synthesize.py variety=wide` renders (SEM, TEM and STEM){boxed}; {minutes} minutes on {machine}{started}. Made by
`python tools/release.py`. No picture is in it; the weights have sempre's licence, Apache-2.0. The bundle computes in
8-bit integers; `weights/` are in half precision.

## Scores

| set | micrographs | AJI+ |
| --- | --- | --- |
| EMPS, held out | {held_out} | {aji_plus} ± {deviation} |
| renders of other seeds | {tried} | {rendered} |
| aggregates as soot forms them, rendered | {tried} | {aggregates} |
{other_scores}{boxed_scores}
Weights and thresholds never saw the held-out micrographs, but the recipe was changed with their scores and pictures in
sight, so the first row is optimistic.

![The rendered fields of lowest AJI+](failures.jpg)

*The rendered fields that it does worst on: ground that could pass for particles, writing, aggregates.*

By micrograph, the 10th, 25th, 50th, 75th and 90th percentile of the held-out ones: {quantiles}. Of empty rendered
fields {empty} of the area is taken for particles. By size, found at an IoU of 0.4:

| equivalent diameter | labelled | found |
| --- | --- | --- |
{sizes}

## What it is not for

It looks for particles and finds some on structured ground that has none (above): do not count on it to say that a
field is empty. It knows outlines, not materials: text, bars and holes are mostly left out, but look at the overlays
before you trust a number. Particles under 6 px wide, particles of one tone that touch along a line, needles in felts
and primary particles of dense TEM aggregates are often missed or joined. It was never tried on biology, fracture
surfaces or porous solids.
A few dozen labels of your own, and `start=particles`, do better than any general model.
"""


def model_card(
    *,
    architecture: str,
    start: str,
    source: str,
    further_sources: Sequence[str],
    boxes_source: str,
    renders: int,
    minutes: float,
    held_out: Mapping,
    boxed: Mapping | None,
    others: Mapping[str, Mapping],
    rendered: Sequence[float],
    aggregates: Sequence[float],
    empty: float,
) -> str:
    """The card, in Markdown.

    Args:
        architecture: the network's.
        start: the model whose weights the training went on from; "" for none.
        source: name and licence of the labelled set.
        further_sources: the same of the further sets.
        boxes_source: of the micrographs with boxes, where there are any.
        renders: rendered fields that were trained on.
        minutes: that the training took on this machine.
        held_out: what `sempre.training.scoring.predict_and_score` gives of the set's held-out micrographs.
        boxed: the same of the held-out ones with boxes; None without any.
        others: the same of the held-out micrographs of each further set, by its name.
        rendered: AJI+ of rendered fields that no training saw.
        aggregates: AJI+ of rendered aggregates.
        empty: the share of empty rendered fields that is taken for particles.
    """
    scores = np.array(aji_plus_of(held_out))
    quantiles = ", ".join(f"{value:.2f}" for value in np.quantile(scores, (0.1, 0.25, 0.5, 0.75, 0.9)))
    bins = held_out["summary"]["size_bins"]
    sizes = [
        f"| {name} | {true} | {found / true if true else 0:.0%} |"
        for name, true, found in zip(size_bin_names(), bins["true"], bins["found"], strict=True)
    ]
    return CARD.format(
        version=sempre.__version__,
        architecture=architecture,
        source=source,
        held_out=len(scores),
        renders=renders,
        minutes=f"{minutes:.0f}",
        machine=f"{platform.machine()}, {os.cpu_count()} CPU cores",
        aji_plus=f"{scores.mean():.3f}",
        deviation=f"{scores.std(ddof=1):.3f}",
        quantiles=quantiles,
        sizes="\n".join(sizes),
        rendered=f"{np.mean(rendered):.3f}",
        aggregates=f"{np.mean(aggregates):.3f}",
        further="".join(f", {name}" for name in further_sources),
        boxed=f", and on ellipses in the boxes of {boxes_source}" if boxed else "",
        started=f", going on from {start}" if start else ", beginning from ImageNet weights (Apache-2.0)",
        other_scores="".join(
            f"| {name}, held out | {len(aji_plus_of(scored))} | {np.mean(aji_plus_of(scored)):.3f} |\n"
            for name, scored in others.items()
        ),
        boxed_scores=_boxed_row(boxed) if boxed else "",
        tried=len(rendered),
        empty=f"{empty:.2%}",
    )


def aji_plus_of(scored: Mapping) -> list[float]:
    """AJI+ of each micrograph, of what `sempre.training.scoring.predict_and_score` gives."""
    return [sample["aji_plus"] for sample in scored["samples"].values()]


def _boxed_row(boxed: Mapping) -> str:
    """A row of the card's table."""
    scores = aji_plus_of(boxed)
    share = boxed["summary"]["correct"] / boxed["summary"]["true_instances"]
    return f"| ellipses in held-out boxes ({share:.0%} found) | {len(scores)} | {np.mean(scores):.3f} |\n"
