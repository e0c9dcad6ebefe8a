"""Scores of foreground masks: counts of pixels, and how far the boundaries lie apart."""

import numpy as np
from scipy import ndimage

from sempre.errors import InputError


def dice(true: np.ndarray, predicted: np.ndarray) -> float:
    """Twice the shared px over the sum of both, of bool masks `[H, W]`; 1 when both are empty.

    Raises:
        InputError: when their sizes differ.
    """
    _check_sizes(true, predicted)
    total = np.count_nonzero(true) + np.count_nonzero(predicted)
    return 2 * np.count_nonzero(true & predicted) / total if total else 1.0


def iou(true: np.ndarray, predicted: np.ndarray) -> float:
    """The shared px over the union, of bool masks `[H, W]`; 1 when both are empty.

    Raises:
        InputError: when their sizes differ.
    """
    _check_sizes(true, predicted)
    union = np.count_nonzero(true | predicted)
    return np.count_nonzero(true & predicted) / union if union else 1.0


def hd95(true: np.ndarray, predicted: np.ndarray) -> float:
    """The 95th percentile of the Hausdorff distance of two masks' boundaries `[H, W]`, in px.

    Of the distances from each boundary px to the nearest one of the other mask the 95th percentile is taken, each way,
    and of the two the larger (Taha and Hanbury, BMC Medical Imaging 15, 2015). The boundary is what an erosion by the
    four neighbours takes away. Both masks empty: 0. One empty: the image's diagonal, which no distance exceeds.

    Raises:
        InputError: when their sizes differ.
    """
    _check_sizes(true, predicted)
    if not true.any() and not predicted.any():
        return 0.0
    if not true.any() or not predicted.any():
        return float(np.hypot(*true.shape))
    boundaries = [mask & ~ndimage.binary_erosion(mask) for mask in (true, predicted)]
    to_other = [ndimage.distance_transform_edt(~boundary) for boundary in reversed(boundaries)]
    return float(max(np.percentile(to_other[side][boundaries[side]], 95) for side in (0, 1)))


def _check_sizes(true: np.ndarray, predicted: np.ndarray) -> None:
    if true.shape != predicted.shape:
        raise InputError(f"the true mask is {true.shape} px, the predicted {predicted.shape}: they must be equal")
