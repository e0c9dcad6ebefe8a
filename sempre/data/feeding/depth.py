"""How deep in its instance each pixel lies, from which a dense segmenter tells where one particle ends."""

import numpy as np
from scipy import ndimage


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Pixels of a label image `[h, w]` of which a neighbour (of four) belongs to something else, bool `[h, w]`."""
    found = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        before, after = [slice(None)] * 2, [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        found[tuple(before)] |= differs
        found[tuple(after)] |= differs
    return found


def depth(labels: np.ndarray) -> np.ndarray:
    """The distance to the instance's outline over the largest in the instance, float32 `[h, w]`, 0 in the ground.

    Naylor et al., IEEE Trans. Medical Imaging 2019, made independent of size. The border of the image is no outline:
    what it cuts goes on behind it.
    """
    foreground = labels > 0
    inner = foreground & ~boundaries(labels)
    if inner.all():
        return foreground.astype(np.float32)
    # An outline lies between pixels, half a pixel from the centres of those next to it.
    distance = (ndimage.distance_transform_edt(inner) + 0.5) * foreground
    deepest = np.full(int(labels.max()) + 1, 0.5)
    np.maximum.at(deepest, labels.ravel(), distance.ravel())
    return (distance / deepest[labels]).astype(np.float32)
