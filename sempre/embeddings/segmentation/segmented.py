"""A micrograph that was segmented without labels: what is written of it, and how well it fits where labels are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sempre.embeddings.segmentation.foreground import best_iou
from sempre.images import write_labels
from sempre.images.write import write_channels
from sempre.metrics import dice, hd95, iou


@dataclass(frozen=True)
class Segmentation:
    """A micrograph's `mask` bool `[H, W]`; and of a clustering the clusters int64 `[H, W]` and the chosen ones."""

    mask: np.ndarray
    clusters: np.ndarray | None = None
    chosen: tuple[int, ...] = ()


def write_segmentation(out: Path, name: str, found: Segmentation, clusters: int) -> None:
    """Write the foreground and, of a clustering, the clusters as one channel each and as a label image from 1 on."""
    for kind in ("foreground", *(("masks", "clusters") if found.clusters is not None else ())):
        (out / kind).mkdir(parents=True, exist_ok=True)
    write_labels(out / f"foreground/{name}.tif", 255 * found.mask)
    if found.clusters is not None:
        channels = found.clusters == np.arange(clusters)[:, None, None]
        write_channels(out / f"masks/{name}.tif", channels.astype(np.uint8) * 255)
        write_labels(out / f"clusters/{name}.tif", found.clusters + 1)


def describe(found: Segmentation, true: np.ndarray | None, fill_holes: bool) -> dict:
    """The foreground's share, which clusters it is, and where there is a true mask the scores against it.

    Args:
        true: bool `[H, W]`; None without labels.
        fill_holes: of every foreground that `best_iou` tries.
    """
    sample: dict[str, Any] = {"foreground_share": float(found.mask.mean())}
    if found.clusters is not None:
        sample["chosen"] = [int(name) + 1 for name in found.chosen]
    if true is None:
        return sample
    sample |= {"iou": iou(true, found.mask), "dice": dice(true, found.mask), "hd95_px": hd95(true, found.mask)}
    if found.clusters is not None:
        sample["best_iou"] = best_iou(found.clusters, true, fill_holes)
    return sample


def mean_figures(samples: Mapping[str, Mapping], figures: Sequence[str]) -> dict[str, float]:
    """The mean of each of `figures` over the samples."""
    return {figure: float(np.mean([sample[figure] for sample in samples.values()])) for figure in figures}
