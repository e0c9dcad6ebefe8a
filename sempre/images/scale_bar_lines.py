"""The lines and ticks of scale bars."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Box:
    """The pixels `[y0:y1, x0:x1]`."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """px."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """px."""
        return self.y1 - self.y0


def gap(low: float, high: float, other_low: float, other_high: float) -> float:
    """The distance between two intervals, negative by as much as they overlap."""
    return max(low, other_low) - min(high, other_high)


def runs(mask: np.ndarray, shortest: int) -> np.ndarray:
    """`[K, 3]` of row, start and end (exclusive) of every run of True along the rows of bool `[H, W]`, from `shortest`
    px on, row by row."""
    edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    long = ends - starts >= shortest
    return np.stack([rows[long], starts[long], ends[long]], axis=1)


LEVELS = range(24, 250, 16)  # grey levels at which strokes are looked for
SHORTEST = 12  # px; shorter ones cannot be measured to 2 %
SHORT = 0.45  # heights of the text: shorter ones are strokes of letters
THICKEST = 0.4  # of a line's length
CONTRAST = 28  # grey levels between a line and what lies around it
UNEVEN = 14  # grey levels of scatter along a line, at most
BLUR = 2  # rows or columns that an edge takes
MARGIN = 1  # columns between a line and the image's border, or it may be cut off there
CLEAR = 0.25  # of a line's contrast that the last column before the border may keep of it
NEAR_BORDER = 8  # columns that a tick at the image's border may take
TICK = 0.05  # of a line's length that a tick is wide, at most: wider ones leave open where the length ends
WIDE = 0.35  # of a text's width: shorter lines in its box are of letters
EDGE = 0.4  # of a text's height, in which a line is no stroke through the letters
FAR = 1.0  # heights of the text between it and its line, at most


@dataclass(frozen=True)
class Line:
    """A stroke over the rows `top` to `bottom` (exclusive), from `left` to `right` in fractions of px; brighter or
    darker than its surroundings by `contrast` grey levels. Of a `vague` one it is not clear where it ends. `thick` px
    are its rows up to where the grey is halfway, which may be more. A `ticked` one has a tick across each end."""

    left: float
    right: float
    top: int
    bottom: int
    bright: bool
    contrast: float
    vague: bool = False
    thick: int = 1
    ticked: bool = False

    @property
    def length(self) -> float:
        """px."""
        return self.right - self.left

    def agrees(self, other: "Line") -> bool:
        """Whether both run over the same columns, to 2 px."""
        return abs(self.left - other.left) <= 2 and abs(self.right - other.right) <= 2


def find_lines(grey: np.ndarray, text: Box) -> list[Line]:
    """All lines that may belong to a text, without the frames of boxes; by falling contrast.

    Args:
        grey: `[H, W]`, 0 to 255.
        text: where the text stands.
    """
    reach = int(np.ceil((FAR + 1) * text.height)) + 8
    top, bottom = max(text.y0 - reach, 0), min(text.y1 + reach, grey.shape[0])
    window = grey[top:bottom].astype(np.float32)
    shortest = max(SHORTEST, int(SHORT * text.height))
    lines: list[Line] = []
    for bright in (True, False):
        signal = window if bright else 255 - window
        for level in LEVELS:
            mask = signal >= level
            for left, right, first, last in _strokes(_with_ends(signal, runs(mask, shortest))):
                line = _measure(signal, mask, left, right, first, last, bright)
                if line is None or _is_frame(mask, line, text, top):
                    continue
                line = replace(line, top=line.top + top, bottom=line.bottom + top)
                twins = [k for k, other in enumerate(lines) if _same_stroke(line, other)]
                if not twins:
                    lines.append(line)
                elif lines[twins[0]].contrast < line.contrast:
                    lines[twins[0]] = line
    return sorted(lines, key=lambda line: -line.contrast)


def without_lines(grey: np.ndarray, text: Box) -> Box:
    """A text's box without the lines that run through its upper or lower part, for an OCR may take a bar for writing.

    Args:
        grey: `[H, W]`, 0 to 255.
        text: where the text stands, or text and bar.
    """
    top, bottom = text.y0, text.y1
    for line in find_lines(grey, text):
        beside = gap(line.left, line.right, text.x0, text.x1) > -WIDE * text.width
        if beside or line.bottom <= text.y0 or line.top >= text.y1:
            continue
        middle = ((line.top + line.bottom) / 2 - text.y0) / text.height
        if middle < EDGE:
            top = max(top, line.bottom + 1)
        elif middle > 1 - EDGE:
            bottom = min(bottom, line.top - 1)
    return Box(text.x0, top, text.x1, bottom) if bottom - top > text.height / 3 else text


def _same_stroke(line: Line, other: Line) -> bool:
    return (
        line.bright == other.bright and line.agrees(other) and gap(line.top, line.bottom, other.top, other.bottom) <= 1
    )


def _with_ends(signal: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Those of the runs `[K, 3]` whose two ends are edges."""
    rows, left, right = found.T
    last = signal.shape[1] - 1
    falls = [
        signal[rows, inner] - signal[rows, np.clip(beyond, 0, last)] >= CONTRAST / 2
        for inner, beyond in ((left + 1, left - 3), (right - 2, right + 2))
    ]
    return found[falls[0] & falls[1]]


def _strokes(found: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Left, right, first row and last row (exclusive) of runs that lie on each other and end within a pixel."""
    open_strokes: list[list[int]] = []
    done = []
    for row, left, right in found.tolist():
        done += [stroke for stroke in open_strokes if stroke[3] < row]
        open_strokes = [stroke for stroke in open_strokes if stroke[3] >= row]
        for stroke in open_strokes:
            if abs(stroke[0] - left) <= 1 and abs(stroke[1] - right) <= 1 and stroke[3] == row:
                stroke[3] = row + 1
                break
        else:
            open_strokes.append([left, right, row, row + 1])
    return [tuple(stroke) for stroke in done + open_strokes]


def _measure(
    signal: np.ndarray, mask: np.ndarray, left: int, right: int, first: int, last: int, bright: bool
) -> Line | None:
    """The line of a stroke if it stands out on all four sides, its ends where the grey is halfway."""
    height, width = signal.shape
    length, thick = right - left, last - first
    if thick > THICKEST * length or left < MARGIN or right > width - MARGIN:
        return None
    ends = min(length // 6, 6)  # which ticks may cross
    core = signal[first:last, left + ends : right - ends]
    highest = core.max(axis=0)
    if highest.std() > UNEVEN:
        return None
    ink = float(np.median(core))
    if np.median(np.abs(highest - ink)) > UNEVEN:
        return None
    outside = []
    for row in (first - BLUR, last - 1 + BLUR):
        if 0 <= row < height:
            beyond = signal[row, left:right]
            # Half of the columns may touch letters.
            if np.mean(beyond > ink - CONTRAST) > 0.5:
                return None
            outside.append(float(np.median(beyond)))
    if not outside:
        return None
    profile = signal[first:last].max(axis=0) if thick < 3 else np.median(signal[first:last], axis=0)
    crossings = []
    for inner, step in ((left + 1, -1), (right - 2, 1)):
        beyond = [profile[x] for x in range(inner + 3 * step, inner + 8 * step, step) if 0 <= x < width]
        if len(beyond) < BLUR + 1:
            border = 0 if step < 0 else width - 1
            if not _is_clear(signal, border, first, last, ink):
                return None
            beyond = [profile[border]]
        ground = float(np.median(beyond))
        if ink - ground < CONTRAST:
            return None
        outside.append(ground)
        crossings.append(_crossing(profile, inner, step, (ink + ground) / 2))
    if None in crossings:
        return None
    thick = _thickness(signal[:, left + ends : right - ends], first, last, (ink + max(outside)) / 2)
    line = Line(crossings[0], crossings[1], first, last, bright, ink - max(outside), thick=thick)
    return _to_ticks(signal, line)


def _thickness(signal: np.ndarray, first: int, last: int, level: float) -> int:
    """Rows in one piece around `first` to `last` (exclusive) whose median is above the level."""
    top, bottom = first, last
    while top > 0 and np.median(signal[top - 1]) > level:
        top -= 1
    while bottom < len(signal) and np.median(signal[bottom]) > level:
        bottom += 1
    return bottom - top


def _is_clear(signal: np.ndarray, border: int, first: int, last: int, ink: float) -> bool:
    """Whether a line over the rows `first` to `last` has ended before the image's column `border`, which is part of the
    ground and not of a frame."""
    rows = [*range(max(first - 10, 0), max(first - BLUR, 0)), *range(last + BLUR, min(last + 10, len(signal)))]
    if not rows:
        return False
    inner = border + 4 if border == 0 else border - 4
    ground, further_in = (float(np.median(signal[rows, column])) for column in (border, inner))
    slack = CLEAR * (ink - max(ground, further_in))
    return bool(abs(ground - further_in) <= slack and np.median(signal[first:last, border]) - ground <= slack)


def _to_ticks(signal: np.ndarray, line: Line) -> Line:
    """A line with ticks at both ends reaches to them: between their middles and their outer edges.

    Which of the two is meant depends on who drew it; it is vague where that makes a difference.
    """
    first, last = (_tick(signal, line, end) for end in (line.left, line.right))
    if first is None or last is None:
        # A tick at the image's border is seen in part: the line may end there or at the tick's other side.
        hidden = line.left if first is None else signal.shape[1] - line.right
        return replace(line, vague=(first is None) != (last is None) and hidden < NEAR_BORDER)
    (left, wide), (right, as_wide) = first, last
    vague = max(wide, as_wide) > TICK * (right - left)
    return replace(line, left=left - wide / 4, right=right + as_wide / 4, vague=vague, ticked=True)


def _tick(signal: np.ndarray, line: Line, end: float) -> tuple[float, float] | None:
    """Middle and width in px of the tick across an end of a line, which shows above and below it."""
    start = max(int(end) - 8, 0)
    found = []
    for rows in (slice(max(line.top - 5, 0), max(line.top - 2, 0)), slice(line.bottom + 2, line.bottom + 5)):
        columns = signal[rows, start : int(end) + 9]
        if not len(columns):
            continue  # the image's border hides one side
        profile = columns.mean(axis=0)
        ground = np.median(profile)
        half = (profile.max() - ground) / 2
        if half < line.contrast / 3:
            return None
        weight = np.clip((profile - ground) / (2 * half), 0, 1)
        high = weight > 0.5
        if np.count_nonzero(np.diff(high, prepend=False, append=False)) != 2:
            return None
        columns = start + 0.5 + np.arange(len(profile))
        found.append((float((columns * high * weight).sum() / (high * weight).sum()), float(weight.sum())))
    if not found:
        return None
    (above, wide), (below, as_wide) = found[0], found[-1]
    if abs(above - below) > 1 or abs((above + below) / 2 - end) > 6:
        return None
    return (above + below) / 2, min(wide, as_wide)


def _crossing(profile: np.ndarray, start: int, step: int, level: float) -> float | None:
    """Where the profile falls below the level on the way from a pixel outwards; pixel k covers [k, k + 1)."""
    x = start
    while 0 <= x + step < len(profile) and abs(x - start) < 6:
        if profile[x] >= level > profile[x + step]:
            share = (profile[x] - level) / (profile[x] - profile[x + step])
            return x + 0.5 + step * share
        x += step
    return None


def _is_frame(mask: np.ndarray, line: Line, text: Box, offset: int) -> bool:
    """Whether the line's ends go on along both sides of the text: then it is a side of the box around it."""
    low, high = text.y0 - offset, text.y1 - offset
    inset = 0.2 * (high - low)
    rows = np.arange(max(int(low + inset), 0), min(int(high - inset) + 1, len(mask)))
    if not len(rows) or line.left > text.x0 + text.height or line.right < text.x1 - text.height:
        return False
    sides = [mask[rows][:, max(int(x) - 2, 0) : int(x) + 3].any(axis=1).mean() for x in (line.left, line.right)]
    if min(sides) < 0.9:
        return False
    # Ticks at the ends of a line that stands beside its letters may be as tall as these.
    return not low + 2 * inset < (line.top + line.bottom) / 2 < high - 2 * inset


TICKS = 11
ROWS = 4  # in which they are seen, at all levels, at least
TICK_LEVELS = range(32, 250, 24)  # grey levels at which ticks are looked for
UNEVEN_TICKS = 0.06  # of their distance that ticks may be out of place, for resampling moves them
TICK_MARGIN = 3  # columns between a tick and the image's border, or it may be no tick, and more may follow
BEYOND = 1.5  # heights of the text between its end and the last tick
CUT = 0.25  # heights of the text between its end and the border, at most, if that cuts it
WIDEST = 0.4  # of the height of the text
FAR_BETWEEN_TICKS = 1.0  # heights of the text between it and the ticks, at most
MOST = 3 * TICKS  # marks in a row: more are texture


def find_ticks(grey: np.ndarray, text: Box) -> Line | None:
    """The scale of ticks above a text, from the middle of the first to that of the last; None where there are
    not exactly eleven.

    Args:
        grey: `[H, W]`, 0 to 255.
        text: where the text stands.
    """
    top = max(int(text.y0 - FAR_BETWEEN_TICKS * text.height), 0)
    window = grey[top : int(text.y0 + 0.4 * text.height)].astype(np.float32)
    found = []
    for bright in (True, False):
        signal = window if bright else 255 - window
        for level in TICK_LEVELS:
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
    inside = (centres > TICK_MARGIN) & (centres < width - TICK_MARGIN)
    lasts = np.flatnonzero(inside & (np.abs(centres - text.x1) <= BEYOND * text.height))
    for last in lasts.tolist():
        for first in range(max(last - TICKS, 0), last - TICKS + 3):
            ticks = centres[first : last + 1]
            step = (ticks[-1] - ticks[0]) / (TICKS - 1)
            if step < 4 or not inside[first]:
                continue
            slack = max(UNEVEN_TICKS * step, 0.8)
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
    slack = max(UNEVEN_TICKS * step, 0.8)
    uneven = np.abs(ticks - first - step * np.arange(TICKS - 1)).max() > slack
    more = np.abs(centres - (first - step)).min() <= slack or ticks[-1] + step < width - TICK_MARGIN
    if step < 4 or uneven or more:
        return None
    return float(first), float(first + (TICKS - 1) * step), 1
