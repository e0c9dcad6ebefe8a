"""Scale bars that are burnt into micrographs: the line that belongs to a text, and the pixel size that follows."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from sempre.images.normalise import percentile_normalise_to_uint8
from sempre.images.scale_bar_lines import FAR, SHORT, Box, Line, find_lines, find_ticks, gap
from sempre.images.scale_bar_text import NM, Reader

FAINTEST = 0.5, 99.5  # percentiles of the grey in a text between which its contrast lies
FAINT = 64  # grey levels of a text's contrast, at most, if its bar is looked for as a faint one
NOISE = 16  # grey levels of a text's contrast that are stretched, at least
BODY = 3  # px that a faint line is thick, at least: a thinner one may be the shadow of another
HOLLOW = 6  # px between the two sides of an outline, at most
SHORTEST = 0.7  # heights of the text: strokes of letters are shorter
LETTERS = 0.6  # of the text's width: shorter lines within it may be the tops of letters
REMNANT = 0.3  # of the text's width: shorter lines in the picture's last row belong to what was cut off
STEMS = 0.25  # of a line's columns from which strokes go on towards the middle of the text, at most
BESIDE = 2.5  # heights of the text between it and a line beside it, at most
RIVAL = 0.5  # a second line as strong as this share of the first leaves it open which is meant
PALE = 0.4  # of its contrast: paler lines leave nothing open, as the paper between a text and its frame
UNEQUAL = 0.25  # of their length that the halves of a line around its text may differ
BROKEN = 0.5  # heights of the text between the parts of one line, at most
REACH = 0.03  # of a line's length that its outline reaches beyond an end, at most
THICK = 8  # px; the other half of so thick a line shows in most of its rows
OUTLINE = 0.25  # of a line's contrast that its outline has, at least
SHADED = 0.04  # of a line's length that shades at its ends may take: their middle is wrong by half of it at most
END = 0.08, 3, 10  # of a line's length, and px at least and at most, that an end is looked at over
STANDS_OUT = 0.2  # of a line's contrast that its ends have on one side at least, above or below
FAINT_STANDS_OUT = 0.5  # and on both sides, of a faint line
FAINT_LINE = 32  # grey levels between a faint line and what lies above and below it, at most
BEYOND = 0.15, 6, 12  # of a line's length, and px at least and at most, beyond an end
GOES_ON = 0.95  # of a line's contrast: what stands out as much beyond an end is a part of it
OUTLINED = 0.05  # lengths of a line with and without its outline that are further apart leave it open which is meant


def find_bar(grey: np.ndarray, text: Box) -> Line | None:
    """The bar that belongs to a text; None where there is none, or where it is not clear which.

    Args:
        grey: `[H, W]`, 0 to 255.
        text: where the text stands.
    """
    whole = grey
    lines = _candidates(grey, text)
    ticks = find_ticks(grey, text)
    if ticks is not None:
        return ticks if all(line.length < ticks.length / 4 for line in lines) else None
    if not lines:
        grey = _stretched(grey, text)
        lines = [line for line in _candidates(grey, text) if line.thick >= BODY]
        if not lines:
            return None
    best = _core(lines)
    if best.vague or _is_hollow(best, lines) or any(_rivals(line, best) and _differs(line, best) for line in lines[1:]):
        return None
    beside = (best.left < text.x0) != (best.right > text.x1) and _stands_beside(best, text)
    if (beside or not _overlaps(best, text)) and _goes_on(grey, best, text):
        return None
    if not _ends_where_it_seems(grey, best, faint=grey is not whole):
        return None
    return _with_outline(_with_shades(best, lines), lines)


def _candidates(grey: np.ndarray, text: Box) -> list[Line]:
    """The lines that may be a text's bar, the strongest first."""
    found = find_lines(grey, text)
    lines = [_joined(left, right) for left, right in combinations(found, 2) if _are_halves(left, right, text)]
    lines += [
        line
        for line in found
        if _is_near(line, text)
        and not any(_within(line, whole) for whole in lines)
        and not _is_of_letters(grey, line, text)
        and not _is_remnant(grey, line, text)
        and not any(_is_broken_off(line, other, text) for other in found)
    ]
    return sorted(lines, key=_strength, reverse=True)


def _stretched(grey: np.ndarray, text: Box) -> np.ndarray:
    """A picture of the contrast that a faint text has, where a grey bar on grey stands out as black on white would."""
    low, high = np.percentile(grey[text.y0 : text.y1, text.x0 : text.x1], FAINTEST)
    if high - low > FAINT:
        return grey
    # As much again is kept around it, so that a frame does not become the ground.
    span = max(high - low, NOISE)
    darkest = (low + high) / 2 - span
    return np.clip((grey - darkest) * (127.5 / span), 0, 255).astype(np.uint8)


def _rivals(line: Line, best: Line) -> bool:
    """Whether a line stands out nearly as much as the best one does."""
    return _strength(line) > RIVAL * _strength(best) and line.contrast > PALE * best.contrast


def _differs(line: Line, best: Line) -> bool:
    """Whether a line may be the bar as well: not the outline of the best one, nor its core without the shades at its
    ends, nor the gap beside it between ticks."""
    beside = gap(line.top, line.bottom, best.top, best.bottom) <= 2
    inside = best.left <= line.left and line.right <= best.right
    of_best = (line.bright != best.bright and beside and inside) or _is_shade(line, best) or _is_outline(line, best)
    return not line.agrees(best) and not of_best


def _is_shade(line: Line, best: Line) -> bool:
    """Whether two lines are one whose ends have a second shade, as where it was drawn over another."""
    nested = (line.left - best.left) * (line.right - best.right) <= 0
    return (
        line.bright == best.bright
        and gap(line.top, line.bottom, best.top, best.bottom) < 0
        and nested
        and abs(line.length - best.length) <= SHADED * best.length
    )


def _with_shades(best: Line, lines: list[Line]) -> Line:
    """A line to the middle of the shades at its ends."""
    strong = RIVAL * _strength(best)
    same = [line for line in lines if _is_shade(line, best) and _strength(line) > strong]  # and itself
    left, right = ([getattr(line, end) for line in same] for end in ("left", "right"))
    return replace(best, left=(min(left) + max(left)) / 2, right=(min(right) + max(right)) / 2)


def _is_outline(line: Line, best: Line) -> bool:
    """Whether a line runs along the upper or lower edge of another as its outline does."""
    slack = max(3, REACH * best.length)
    return (
        line.bright != best.bright
        and line.contrast > OUTLINE * best.contrast
        and gap(line.top, line.bottom, best.top, best.bottom) <= 2
        and -2 <= best.left - line.left <= slack
        and -2 <= line.right - best.right <= slack
    )


def _core(lines: list[Line]) -> Line:
    """The strongest line, or that within if it is one side of an outline."""
    cores = [line for line in lines if _is_outline(lines[0], line)]
    within = [core for core in cores if sum(_is_outline(line, core) for line in lines) > 1]
    return within[0] if within else lines[0]


def _is_hollow(best: Line, lines: list[Line]) -> bool:
    """Whether a line is a side of the outline of another that is much shorter: either may be meant."""
    cores = [
        line
        for line in lines
        if line.bright != best.bright
        and _within(line, best)
        and OUTLINED * best.length < best.length - line.length < best.length / 2
        and gap(line.top, line.bottom, best.top, best.bottom) <= 2
    ]
    return any(
        line.bright == best.bright
        and line is not best
        and line.agrees(best)
        and any((core.top - best.top) * (line.top - core.top) > 0 for core in cores)
        and gap(line.top, line.bottom, best.top, best.bottom) <= HOLLOW
        for line in lines
    )


def _strength(line: Line) -> float:
    """Contrast weighted with what shows of a line."""
    return line.contrast * np.sqrt(line.length * line.thick)


def _stands_beside(line: Line, text: Box) -> bool:
    middle = (line.top + line.bottom) / 2
    return text.y0 + 0.1 * text.height <= middle <= text.y1 - 0.1 * text.height


def _is_near(line: Line, text: Box) -> bool:
    """Whether a line is long enough for a text's bar, and stands above, below or beside it."""
    inset = 0.1 * text.height
    among_letters = text.y0 + inset < (line.top + line.bottom) / 2 < text.y1 - inset
    if line.length < (SHORTEST if among_letters else SHORT) * text.height or line.bottom - line.top > text.height:
        return False
    if _overlaps(line, text):
        return gap(line.top, line.bottom, text.y0, text.y1) <= FAR * text.height
    return _stands_beside(line, text) and gap(line.left, line.right, text.x0, text.x1) <= BESIDE * text.height


def _is_of_letters(grey: np.ndarray, line: Line, text: Box) -> bool:
    """Whether a line among the letters is of them, as the tops of a blurred mm are: these stand on stems, and the
    taller letters beside them reach beyond."""
    middle = (line.top + line.bottom) / 2
    if not text.y0 < middle < text.y1 or line.length > LETTERS * text.width or not _overlaps(line, text):
        return False
    above = middle < (text.y0 + text.y1) / 2
    row = line.bottom + 1 if above else line.top - 2
    beyond = slice(text.y0, line.top - 2) if above else slice(line.bottom + 2, text.y1)
    left, right = int(line.left) + 1, int(line.right)
    signal = grey.astype(np.float32) if line.bright else 255 - grey.astype(np.float32)
    ground = np.median(signal[text.y0 : text.y1, text.x0 : text.x1])
    inked = signal > (np.median(signal[line.top : line.bottom, left:right]) + ground) / 2
    stems, beyond = inked[row, left:right], inked[beyond, text.x0 : text.x1]
    return bool(stems.mean() > STEMS or beyond.sum() > STEMS * text.height)


def _is_remnant(grey: np.ndarray, line: Line, text: Box) -> bool:
    """Whether a line is a single row at the picture's border, short beside its text: it may be of anything."""
    at_border = line.top == 0 or line.bottom == len(grey)
    return at_border and line.bottom - line.top == 1 and line.length < REMNANT * text.width


def _is_broken_off(line: Line, other: Line, text: Box) -> bool:
    """Whether another line goes on where one ends: the margin of a box, which a letter cuts in two."""
    return (
        line.bright == other.bright
        and abs(line.top - other.top) <= 2
        and abs(line.bottom - other.bottom) <= 2
        and 0 < gap(line.left, line.right, other.left, other.right) < BROKEN * text.height
    )


def _overlaps(line: Line, text: Box) -> bool:
    """Whether a line lies over or under a text, not beside it."""
    return gap(line.left, line.right, text.x0, text.x1) <= -0.3 * min(line.length, text.width)


def _are_halves(one: Line, other: Line, text: Box) -> bool:
    """Whether two lines are what shows of one on both sides of the text in its middle."""
    left, right = sorted((one, other), key=lambda line: line.left)
    return (
        left.bright == right.bright
        and abs(left.top - right.top) <= 1
        and abs(left.bottom - right.bottom) <= 1
        and _stands_beside(left, text)
        and all(-0.7 <= space / text.height <= 1.2 for space in (text.x0 - left.right, right.left - text.x1))
        and abs(left.length - right.length) <= UNEQUAL * max(left.length, right.length)
    )


def _joined(one: Line, other: Line) -> Line:
    left, right = sorted((one, other), key=lambda line: line.left)
    vague = left.vague or right.vague
    return replace(left, right=right.right, contrast=min(left.contrast, right.contrast), vague=vague)


def _within(line: Line, whole: Line) -> bool:
    return whole.left - 2 <= line.left and line.right <= whole.right + 2


def _goes_on(grey: np.ndarray, line: Line, text: Box) -> bool:
    """Whether there may be more of a line on the other side of its text: then this is only a half of it."""
    start = int(text.x1 + 0.2 * text.height) if line.left < text.x0 else int(text.x0 - 0.2 * text.height - 12)
    columns = slice(max(start, 0), max(start + 12, 0))
    signal = (grey if line.bright else 255 - grey.astype(np.float32))[:, columns].astype(np.float32)
    if signal.shape[1] < 6:
        return False
    profile = np.median(signal, axis=1)
    rows = slice(max(line.top - 1, 0), line.bottom + 1)
    around = [row for row in (line.top - 4, line.bottom + 3) if 0 <= row < len(profile)]
    if not around:
        return True
    inside = np.median(profile[line.top : line.bottom]) if line.thick >= THICK else profile[rows].max()
    return bool(inside - max(profile[row] for row in around) > 0.3 * line.contrast)


def _ends_where_it_seems(grey: np.ndarray, line: Line, faint: bool) -> bool:
    """Whether a line stands out at both its ends, and nothing as strong goes on beyond them.

    A texture as bright as a bar seems to lengthen it, one that hides a part of it to shorten it.
    """
    if line.ticked:
        return True
    signal = (grey if line.bright else 255 - grey.astype(np.float32)).astype(np.float32)
    height = len(signal)
    sides = [row for row in (line.top - 3, line.bottom + 2) if 0 <= row < height]
    around = [row for row in (line.top - 4, line.bottom + 3) if 0 <= row < height]
    left, right = round(line.left), round(line.right)
    if not sides or not around or right - left < 2 * END[1]:
        return False
    end, beyond = (int(np.clip(share * line.length, low, high)) for share, low, high in (END, BEYOND))
    ink = float(np.median(signal[line.top : line.bottom, left + 2 : right - 2]))
    contrast = max(ink - max(float(np.median(signal[row, left:right])) for row in sides), 1.0)
    for columns in (slice(left, left + end), slice(right - end, right)):
        inside = float(np.median(signal[line.top : line.bottom, columns].max(axis=0)))
        above_and_below = [inside - float(np.median(signal[row, columns])) for row in sides]
        least = FAINT_STANDS_OUT if faint or contrast < FAINT_LINE else -np.inf
        if max(above_and_below) < STANDS_OUT * contrast or min(above_and_below) < least * contrast:
            return False
    for columns in (slice(max(left - 2 - beyond, 0), max(left - 2, 0)), slice(right + 2, right + 2 + beyond)):
        profile = signal[:, columns]
        if profile.shape[1] < 4:
            continue
        profile = np.median(profile, axis=1)
        inside = profile[max(line.top - 1, 0) : line.bottom + 1].max()
        if inside - max(profile[row] for row in around) > GOES_ON * contrast:
            return False
    return True


def _with_outline(best: Line, lines: list[Line]) -> Line | None:
    """A line; if it has an outline, to the middle of that."""
    outlines = [line for line in lines if _is_outline(line, best)]
    if not outlines:
        return best
    left, right = (float(np.mean([getattr(line, end) for line in outlines])) for end in ("left", "right"))
    if right - left - best.length > OUTLINED * best.length:
        return None
    return replace(best, left=(left + best.left) / 2, right=(right + best.right) / 2)


SMALLEST = 128  # px of a side: less has no room for a bar and its writing, and reading costs half a second at any size
SAME = 0.02  # pixel sizes within this share of each other agree


@dataclass(frozen=True)
class ScaleBar:
    """A bar of `length_px` px that stands for `length_nm` nm."""

    length_px: float
    length_nm: float

    @property
    def pixel_size_nm(self) -> float:
        """nm per px."""
        return self.length_nm / self.length_px


def read_scale_bar(pixels: np.ndarray, reader: Reader) -> ScaleBar | None:
    """The scale bar of a micrograph; None where it is small, has none, or where anything about it is in doubt.

    Args:
        pixels: `[H, W]`, any real type.
        reader: of the writing.
    """
    if min(pixels.shape) < SMALLEST:
        return None
    grey = pixels if pixels.dtype == np.uint8 else percentile_normalise_to_uint8(pixels, 0, 100)
    bars = []
    for box, length_nm in reader.lengths(grey):
        line = find_bar(grey, box)
        if line is not None:
            bars.append(ScaleBar(line.length, length_nm))
    if len({bar.length_nm >= NM["mm"] for bar in bars}) > 1:
        bars = [bar for bar in bars if bar.length_nm < NM["mm"]]  # a working distance stands in mm beside the bar's
    sizes = [bar.pixel_size_nm for bar in bars]
    if not bars or max(sizes) > (1 + SAME) * min(sizes):
        return None
    return bars[0]
