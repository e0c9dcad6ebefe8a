"""Grey values to a common range."""

from collections.abc import Sequence

import numpy as np

from sempre.errors import InputError

# Grey values in [0, 1] become (x - MEAN) / STD wherever micrographs enter a network.
MEAN, STD = 0.5, 0.25
PART = 1 << 22  # px counted at a time
SPECKS = 0.02  # per cent of the blocks of 3x3 px that are too few to be particles
# What lies beyond the percentiles by more than this share of their range stands out from all the rest: particles of a
# sparse field. At most as much as the range is added, or a bar of 16-bit white would leave a micrograph no levels.
STANDS_OUT, MOST_ADDED = 0.5, 1.0
EVEN = 4.0  # the ground's percentiles lie about as far from its median on both sides; particles' lie farther on one


def percentile_range(percentiles: Sequence[float]) -> tuple[float, float]:
    """The percentiles of the grey values that become black and white, as a recipe's option gives them.

    Raises:
        InputError: for what are not two rising numbers from 0 to 100.
    """
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise InputError(f"percentiles={list(percentiles)} are no range: give two rising numbers, as in [1,99]")
    low, high = map(float, percentiles)
    return low, high


def percentile_normalise(pixels: np.ndarray, low: float = 1.0, high: float = 99.0, plain: bool = False) -> np.ndarray:
    """Map the `low` percentile to 0 and the `high` one to 1, clipping what lies outside.

    Robust to hot pixels, charging and burnt-in text; (1, 99), (2, 98) and (5, 95) are common choices. In a sparse field
    both percentiles are the ground's: where more than specks stands out, the range is widened towards it, so that
    the ground's noise does not fill all levels.

    Args:
        pixels: `[H, W]`, or colours `[H, W, 3]`, which have common percentiles; any real type. Values that are not
            finite count as the nearest finite ones or 0.
        plain: take the percentiles at their word, and widen no range.

    Returns:
        float32 in [0, 1] of the same shape; zeros for a constant image.
    """
    pixels = np.asarray(pixels)
    if _has_few_levels(pixels):
        return _normalised_levels(pixels, low, high, plain)[pixels]
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        finite = pixels[np.isfinite(pixels)]
        if finite.size == 0:
            return np.zeros(pixels.shape, np.float32)
        pixels = np.nan_to_num(pixels, nan=finite.min(), posinf=finite.max(), neginf=finite.min())
    darkest, brightest = np.percentile(pixels, (low, high))
    if not plain:
        darkest, brightest = _widened(pixels, darkest, brightest)
    return _scale(pixels, darkest, brightest, float(pixels.min()), float(pixels.max()))


def percentile_normalise_to_uint8(
    pixels: np.ndarray, low: float = 1.0, high: float = 99.0, plain: bool = False
) -> np.ndarray:
    """`to_uint8(percentile_normalise(…))`, uint8 `[H, W]`, sooner for integers of 8 and 16 bits."""
    pixels = np.asarray(pixels)
    if _has_few_levels(pixels):
        return to_uint8(_normalised_levels(pixels, low, high, plain))[pixels]
    return to_uint8(percentile_normalise(pixels, low, high, plain))


def is_blank(pixels: np.ndarray) -> bool:
    """Whether pixels `[H, W]` show a single grey value, or none that is finite: such an image holds nothing."""
    if pixels.dtype.kind != "f":
        return pixels.size == 0 or bool(pixels.min() == pixels.max())
    finite = pixels[np.isfinite(pixels)]
    return finite.size == 0 or bool(finite.min() == finite.max())


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Grey values in [0, 1] as uint8, rounded."""
    return (np.clip(pixels, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def _widened(pixels: np.ndarray, darkest: float, brightest: float) -> tuple[float, float]:
    """The percentiles of pixels `[H, W]` or `[H, W, 3]`, moved out to what stands out beyond them where both are the
    ground's."""
    blocks = _blocks(pixels)
    if not blocks.size:
        return darkest, brightest
    low, middle, high = np.percentile(blocks, (SPECKS, 50, 100 - SPECKS))
    if not 1 / EVEN <= (brightest - middle) / max(middle - darkest, 1e-9) <= EVEN:
        return darkest, brightest
    span = brightest - darkest
    below, above = (added if added > STANDS_OUT * span else 0 for added in (darkest - low, high - brightest))
    return darkest - min(below, MOST_ADDED * span), brightest + min(above, MOST_ADDED * span)


def _blocks(pixels: np.ndarray) -> np.ndarray:
    """The median of the rows' medians of each block of 3x3 px, `[h, w]`, in each channel where there are some."""
    height, width = (side // 3 * 3 for side in pixels.shape[:2])
    rows = max(PART // max(width, 1) // 3, 1) * 3
    parts = [pixels[top : min(top + rows, height), :width] for top in range(0, height, rows)]
    medians = [_median(*(part[:, start::3] for start in range(3))) for part in parts]
    medians = [_median(*(part[start::3] for start in range(3))) for part in medians]
    return np.concatenate(medians) if medians else np.zeros((0, 0), pixels.dtype)


def _median(one: np.ndarray, two: np.ndarray, three: np.ndarray) -> np.ndarray:
    return np.maximum(np.minimum(one, two), np.minimum(np.maximum(one, two), three))


def _scale(pixels: np.ndarray, darkest: float, brightest: float, lowest: float, highest: float) -> np.ndarray:
    if brightest <= darkest:
        darkest, brightest = lowest, highest
    if brightest <= darkest:
        return np.zeros(pixels.shape, np.float32)
    # Integers far from 0 have more digits than a float32: the darkest goes off before they become one.
    above = np.subtract(pixels, darkest, dtype=np.float64 if pixels.dtype.itemsize > 2 else np.float32)
    return np.clip(above.astype(np.float32) / np.float32(brightest - darkest), 0.0, 1.0)


def _has_few_levels(pixels: np.ndarray) -> bool:
    return pixels.dtype in (np.uint8, np.uint16) and pixels.size > 0


def _normalised_levels(pixels: np.ndarray, low: float, high: float, plain: bool) -> np.ndarray:
    """What each level of uint8 or uint16 pixels becomes, float32 `[levels]`.

    The levels' counts tell the percentiles as a sorting of the pixels does, in a tenth of the time.
    """
    flat = pixels.reshape(-1)
    counts = np.zeros(int(pixels.max()) + 1, np.int64)
    for start in range(0, flat.size, PART):
        counts += np.bincount(flat[start : start + PART], minlength=len(counts))
    below = np.cumsum(counts)
    places = np.array([low, high]) / 100 * (flat.size - 1)
    before, after = (np.searchsorted(below, np.floor(places) + step, side="right") for step in (0, 1))
    percentiles = before + (np.minimum(after, len(counts) - 1) - before) * (places % 1)
    present = np.flatnonzero(counts)
    darkest, brightest = map(float, percentiles) if plain else _widened(pixels, *percentiles)
    return _scale(np.arange(len(counts)), darkest, brightest, float(present[0]), float(present[-1]))
