"""A scale of eleven ticks, as Hitachi's microscopes write it: the text is the length from the first to the last."""

import numpy as np

from sempre.images.scale_bar.geometry import Box, runs
from sempre.images.scale_bar.line import Line

TICKS = 11
ROWS = 4  # in which they are seen, at all levels, at least
LEVELS = range(32, 250, 24)  # grey levels at which ticks are looked for
UNEVEN = 0.06  # of their distance that ticks may be out of place, for resampling moves them
MARGIN = 3  # columns between a tick and the image's border, or it may be no tick, and more may follow
BEYOND = 1.5  # heights of the text between its end and the last tick
CUT = 0.25  # heights of the text between its end and the border, at most, if that cuts it
WIDEST = 0.4  # of the height of the text
FAR = 1.0  # heights of the text between it and the ticks, at most
MOST = 3 * TICKS  # marks in a row: more are texture


def find_ticks(grey: np.ndarray, text: Box) -> Line | None:
    """The scale of ticks above a text, from the middle of the first to that of the last; None where there are
    not exactly eleven.

    Args:
        grey: `[H, W]`, 0 to 255.
        text: where the text stands.
    """
    top = max(int(text.y0 - FAR * text.height), 0)
    window = grey[top : int(text.y0 + 0.4 * text.height)].astype(np.float32)
    found = []
    for bright in (True, False):
        signal = window if bright else 255 - window
        for level in LEVELS:
            stretches = runs(signal >= level, 1)
            short = stretches[stretches[:, 2] - stretches[:, 1] <= max(WIDEST * text.height, 3)]
            counts = np.bincount(short[:, 0], minlength=1)
            for row in np.flatnonzero((counts >= TICKS - 1) & (counts <= MOST)):
                ends = _ends(_centres(signal[row], short[short[:, 0] == row]), text, grey.shape[1])
                if ends is not None:
                    found.append((*ends, top + row, bright))
    # Rows that show all ticks say more than those where one is hidden, some of which are letters.
    whole = [ends for ends in found if not ends[2]]
    found = whole if len(whole) >= ROWS else found
    # One row of noise is no scale: ticks are taller than that, and stand out at more than one level.
    if len(found) < ROWS:
        return None
    left, right, _, row, bright = np.median(found, axis=0).tolist()
    if any(abs(end[0] - left) > 2 or abs(end[1] - right) > 2 for end in found):
        return None
    return Line(left, right, int(row), int(row) + 1, bright > 0.5, 0.0)


def _centres(signal: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """Centres of gravity of the grey over stretches `[K, 3]` of one row, with a pixel on both sides."""
    centres = []
    for _, left, right in stretches.tolist():
        columns = np.arange(max(left - 1, 0), min(right + 1, len(signal)))
        weight = signal[columns] - signal[columns].min() + 1e-3
        centres.append(float((weight * (columns + 0.5)).sum() / weight.sum()))
    return np.array(centres)


def _ends(centres: np.ndarray, text: Box, width: int) -> tuple[float, float, int] | None:
    """The first and the last of eleven even ticks that stand over the text, without a twelfth, and how many of those
    between them are hidden, as by a particle: one at most."""
    # The text ends below the last one; a tick at the image's border may be no tick, and more may follow.
    inside = (centres > MARGIN) & (centres < width - MARGIN)
    lasts = np.flatnonzero(inside & (np.abs(centres - text.x1) <= BEYOND * text.height))
    for last in lasts.tolist():
        for first in range(max(last - TICKS, 0), last - TICKS + 3):
            ticks = centres[first : last + 1]
            step = (ticks[-1] - ticks[0]) / (TICKS - 1)
            if step < 4 or not inside[first]:
                continue
            slack = max(UNEVEN * step, 0.8)
            off = np.abs(centres[:, None] - (ticks[0] + step * np.arange(-1, TICKS + 1))).min(axis=0)
            hidden = np.count_nonzero(off[1:-1] > slack)
            # What hides a tick may look like ticks out of place.
            few = TICKS - hidden <= len(ticks) <= TICKS + hidden
            if off[0] > slack and off[-1] > slack and hidden <= 1 and few:
                return float(ticks[0]), float(ticks[-1]), int(hidden)
    return _ends_beyond(centres[inside], text, width)


def _ends_beyond(centres: np.ndarray, text: Box, width: int) -> tuple[float, float, int] | None:
    """The first of eleven even ticks and where the last one must be, which alone the border hides, as it cuts the text
    below."""
    ticks = centres[1 - TICKS :]
    if len(ticks) < TICKS - 1 or text.x1 < width - CUT * text.height:
        return None
    first, step = ticks[0], (ticks[-1] - ticks[0]) / (TICKS - 2)
    slack = max(UNEVEN * step, 0.8)
    uneven = np.abs(ticks - first - step * np.arange(TICKS - 1)).max() > slack
    more = np.abs(centres - (first - step)).min() <= slack or ticks[-1] + step < width - MARGIN
    if step < 4 or uneven or more:
        return None
    return float(first), float(first + (TICKS - 1) * step), 1
