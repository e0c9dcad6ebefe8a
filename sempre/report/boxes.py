"""Boxes drawn on a micrograph: where cells or patches lie."""

import numpy as np
from PIL import Image
from scipy import ndimage

from sempre.report.palette import VERMILLION, YELLOW

SIDE = 640  # px, longer side of the picture
LINE = 2  # px
DARK = (20, 20, 20)  # beside the lines, which bright ground would swallow


def draw_boxes(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """A micrograph uint8 `[H, W]` as a picture uint8 `[h, w, 3]` with boxes `[P, 4]` (x0, y0, x1, y1 in its px).

    What they cover together has one yellow outline, within it the first box, the strongest, a vermillion one: lines
    between neighbours would hide what lies there.
    """
    scale = SIDE / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
    drawn = np.array(picture)
    covered = _covered(boxes * scale, (height, width))
    first = _covered(boxes[:1] * scale, (height, width))
    outline, strongest = _inner_edge(covered), _inner_edge(first)
    halo = ndimage.binary_dilation(outline | strongest, iterations=1)
    drawn[halo] = DARK
    drawn[outline] = YELLOW
    drawn[strongest] = VERMILLION
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
