"""The information bar (databar) that microscopes burn in below a micrograph: detector, voltage, scale bar."""

import numpy as np

TALLEST = 0.25  # share of the image's height that a bar may take
SMALLEST = 8  # px
BACKGROUND = 0.35  # at least this share of a bar's row is its background colour
TOLERANCE = 3 / 255  # of the grey range: JPEG and resampling blur the background's one value
WRITING = 0.003  # at least this share of a bar is writing
EDGE = 0.4  # by so much a bar's first row has more of its background than the field above
WHOLE_EDGE = 0.8  # which suffices where there is little writing
LETTERS, FEW_LETTERS = 8, 2  # separate pieces of writing: a field's own scale bar has fewer
SOFT = 0.87  # of its contrast with the bar the row above has left where resampling has blurred the edge
FRAME = 4  # rows of a frame that may run below the bar


def find_information_bar(pixels: np.ndarray) -> int:
    """The first row of the information bar, or the image's height when there is none.

    A bar reaches from side to side at the lower edge, its rows are mostly one grey value with writing on it, and the
    field above it is not. A dark substrate is no bar: it has noise, and is taller than a quarter of the image. Nor is a
    smooth one with a scale bar and its text on it: it has no edge from side to side, and few letters. Where either is
    in doubt there is no bar, for what is cut off is lost: under a field as black as itself a bar stays.

    Args:
        pixels: `[H, W]`, any real type.
    """
    from scipy import ndimage  # slow to import, and only this needs it

    height, width = pixels.shape
    tallest = int(TALLEST * height)
    if tallest < SMALLEST or width < SMALLEST:
        return height
    lower = pixels[height - tallest - 2 :].astype(np.float32)
    span = float(lower.max() - lower.min())
    if not np.isfinite(span) or span == 0:
        return height
    for background in (_background(lower[-tallest // 3 :]), lower.min(), lower.max()):
        is_background = np.abs(lower - background) <= TOLERANCE * span
        share = is_background.mean(axis=1)
        bar = share >= BACKGROUND
        rows = _run_from_below(bar)
        top = len(bar) - rows
        if not SMALLEST <= rows <= tallest or top == 0:
            continue
        writing = np.abs(lower[top:] - background) > 0.3 * span
        edge = share[top : top + 2].max() - share[max(top - 3, 0) : top].min()
        letters = ndimage.label(writing, np.ones((3, 3)))[1]
        enough = letters >= FEW_LETTERS and edge >= (EDGE if letters >= LETTERS else WHOLE_EDGE)
        if enough and writing.mean() >= WRITING:
            return height - rows + _is_soft(lower, top, background)
    return height


def crop_information_bar(pixels: np.ndarray) -> np.ndarray:
    """The micrograph `[H, W]` without its information bar; a view."""
    return pixels[: find_information_bar(pixels)]


def field_rows(pixels: np.ndarray) -> tuple[int, int]:
    """The first row of a micrograph's field and the row behind its last, between bars above and below it.

    Args:
        pixels: `[H, W]`, any real type.
    """
    bottom = find_information_bar(pixels)
    above = len(pixels) - find_information_bar(pixels[::-1])
    return (above, bottom) if above < bottom else (0, bottom)


def _is_soft(lower: np.ndarray, top: int, background: float) -> bool:
    """Whether the bar's edge was blurred by resampling: then its first row is the field's as well."""
    if top < 3:
        return False
    before, last = (np.median(np.abs(lower[row] - background)) for row in (top - 2, top - 1))
    return bool(last < SOFT * before)


def _background(rows: np.ndarray) -> float:
    """The most frequent grey value."""
    values, counts = np.unique(rows, return_counts=True)
    return float(values[counts.argmax()])


def _run_from_below(bar: np.ndarray) -> int:
    """Rows from the lower edge up to the bar's top; its frame's line or a full row of writing may interrupt it."""
    last = len(bar)
    gap = 0
    top = last
    for row in range(last - 1, -1, -1):
        if bar[row]:
            top, gap = row, 0
        else:
            gap += 1
            if gap > FRAME:
                break
    return last - top
