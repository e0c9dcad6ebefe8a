"""Grey values to a common range."""

import numpy as np

# Grey values in [0, 1] become (x - MEAN) / STD wherever micrographs enter a network.
MEAN, STD = 0.5, 0.25


def percentile_normalise(pixels: np.ndarray, low: float = 1.0, high: float = 99.0) -> np.ndarray:
    """Map the `low` percentile to 0 and the `high` one to 1, clipping what lies outside.

    Robust to hot pixels, charging and burnt-in text; (1, 99), (2, 98) and (5, 95) are common choices.

    Args:
        pixels: `[H, W]`, any real type; values that are not finite count as the nearest finite ones or 0.

    Returns:
        float32 `[H, W]` in [0, 1]; zeros for a constant image.
    """
    pixels = np.asarray(pixels)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        finite = pixels[np.isfinite(pixels)]
        if finite.size == 0:
            return np.zeros(pixels.shape, np.float32)
        pixels = np.nan_to_num(pixels, nan=finite.min(), posinf=finite.max(), neginf=finite.min())
    darkest, brightest = np.percentile(pixels, (low, high))
    if brightest <= darkest:
        darkest, brightest = float(pixels.min()), float(pixels.max())
    if brightest <= darkest:
        return np.zeros(pixels.shape, np.float32)
    scaled = (pixels.astype(np.float32) - np.float32(darkest)) / np.float32(brightest - darkest)
    return np.clip(scaled, 0.0, 1.0)


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Grey values in [0, 1] as uint8, rounded."""
    return (np.clip(pixels, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
