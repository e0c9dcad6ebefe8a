"""The classical segmentation of particles: a threshold and a watershed, no training."""

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed


def otsu_watershed(pixels: np.ndarray, smoothing: float = 1.0, distance: int = 7, smallest: int = 30) -> np.ndarray:
    """Instances by Otsu's threshold and a watershed of the distance to the background (scikit-image).

    Otsu, IEEE Trans. SMC 9, 1979; the particles are the side of the threshold that touches the image's border less.

    Args:
        pixels: grey values `[H, W]`.
        smoothing: deviation of the Gaussian that smooths first, px.
        distance: smallest distance between two particles' centres, px.
        smallest: instances of fewer px are dropped.

    Returns:
        A label image int32 `[H, W]`, 0 = background.
    """
    smooth = gaussian(pixels.astype(np.float32), smoothing)
    if smooth.min() == smooth.max():
        return np.zeros(pixels.shape, np.int32)
    foreground = smooth > threshold_otsu(smooth)
    border = np.concatenate([foreground[0], foreground[-1], foreground[:, 0], foreground[:, -1]])
    if border.mean() > 0.5:
        foreground = ~foreground
    return split_touching(foreground, distance, smallest)


def split_touching(foreground: np.ndarray, distance: int = 7, smallest: int = 30) -> np.ndarray:
    """Instances of a mask, holes filled, by a watershed of the distance to the background (scikit-image).

    Args:
        foreground: bool `[H, W]`.
        distance: smallest distance between two instances' centres, px.
        smallest: instances of fewer px are dropped.

    Returns:
        A label image int32 `[H, W]`, 0 = background; a mask without any background is one instance.
    """
    foreground = ndimage.binary_fill_holes(foreground)
    if foreground.all():
        return np.full(foreground.shape, foreground.size >= smallest, np.int32)
    depth = ndimage.distance_transform_edt(foreground)
    centres = peak_local_max(gaussian(depth, 1.0), min_distance=distance, labels=foreground.astype(np.int32))
    markers = np.zeros(foreground.shape, np.int32)
    markers[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    labels = watershed(-depth, markers, mask=foreground)
    small = np.bincount(labels.ravel()) < smallest
    labels[small[labels]] = 0
    return labels.astype(np.int32)
