"""Boxes drawn on a micrograph: where cells or patches lie."""

import numpy as np
from PIL import Image
from scipy import ndimage

from sempre.report.palette import VERMILLION, YELLOW

SIDE = 640  # px, longer side of the picture
LINE = 2  # px
DARK = (20, 20, 20)  # beside the lines, which bright ground would swallow


def draw_boxes(pixels: np.ndarray, boxes: np.ndarray, together: bool = True) -> np.ndarray:
    """A micrograph uint8 `[H, W]` as a picture uint8 `[h, w, 3]` with boxes `[P, 4]` (x0, y0, x1, y1 in its px).

    The first box has a vermillion outline. What all cover together has a yellow one, for lines between neighbours would
    hide what lies there; unless `together`, each has its own.
    """
    scale = SIDE / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
    drawn = np.array(picture)
    groups = [boxes] if together else [boxes[[position]] for position in range(len(boxes))]
    outlines = [_inner_edge(_covered(group * scale, (height, width))) for group in (*groups, boxes[:1])]
    drawn[ndimage.binary_dilation(np.any(outlines, axis=0))] = DARK
    for outline in outlines:
        drawn[outline] = YELLOW
    drawn[outlines[-1]] = VERMILLION
    return drawn


def _covered(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Px, bool `[h, w]`, within any of the boxes; each covers one at the least."""
    covered = np.zeros(shape, bool)
    for x0, y0, x1, y1 in np.round(boxes).astype(int):
        covered[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    return covered


def _inner_edge(mask: np.ndarray) -> np.ndarray:
    """Px of the mask that are less than a line's width from its outside; the picture's border is outside."""
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=LINE)
