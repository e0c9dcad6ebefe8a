"""From overlapping instances to a label image without slivers."""

from collections.abc import Sequence

import numpy as np

MIN_VISIBLE_SHARE = 0.25


def paint_particles(
    masks: Sequence[tuple[int, int, np.ndarray]], scores: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A label image of overlapping instances: the higher score lies on top, and what it nearly hides is left out.

    Two detections of one particle leave a thin sliver of the lower one around the higher. As in Kirillov et al.,
    "Panoptic Segmentation", CVPR 2019, instances are taken by falling score, and one of which less than
    `MIN_VISIBLE_SHARE` of its mask is still free is dropped; what it would have covered stays free for the next.

    Args:
        masks: (y0, x0, bool crop `[h, w]`) of each instance, inside the image.
        scores: `[N]`.
        shape: height and width of the micrograph in px.

    Returns:
        The label image int32 `[H, W]` with ids 1 … K, and the positions `[K]` of the kept instances: id k is instance
        `kept[k - 1]`. The image is `sempre.images.paint_instances` of the kept.
    """
    labels = np.zeros(shape, np.int32)
    kept = []
    for index in np.argsort(-np.asarray(scores), kind="stable").tolist():
        y, x, mask = masks[index]
        region = labels[y : y + mask.shape[0], x : x + mask.shape[1]]
        visible = mask & (region == 0)
        pixels = np.count_nonzero(visible)
        if pixels == 0 or pixels < MIN_VISIBLE_SHARE * np.count_nonzero(mask):
            continue
        kept.append(index)
        region[visible] = len(kept)
    return labels, np.array(kept, dtype=np.int64)
