"""The text of a scale bar: what an OCR library reads, and which readings are lengths."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from sempre.images.information_bar import find_information_bar
from sempre.images.normalise import percentile_normalise_to_uint8
from sempre.images.scale_bar_lines import Box, gap, without_lines

# A length as it stands beside a bar, and what an OCR may see of the bar or of a frame around it.
LENGTH = re.compile(
    r"[\W_|]*?(?P<number>\d[\dOD]*(?:[.,][\dOD]+)?|[lI])[\s.]{0,2}(?P<unit>nm|[uµμ][mr]|mm)[\W_|]*[l1]?", re.IGNORECASE
)
RECIPROCAL = re.compile(r"m\s*[-−–—¯~^][\W_]*[1lI]\W*$", re.IGNORECASE)  # nm⁻¹, the bar of a diffraction pattern
# An OCR's slips over small blurred units, each over one alone: of 3,600 readings of rendered ones `pm` came of µm six
# times and `rm` of nm six times, of any other never.
MISREAD = {"pm": "um", "rm": "nm", "rim": "nm"}
NUMBER, UNIT = re.compile(r"\d+(?:[.,]\d+)?|[lI]"), re.compile(r"nm|[uµμ]m|mm", re.IGNORECASE)
ONES = {"l", "I", "i"}
NM = {"nm": 1.0, "um": 1e3, "mm": 1e6}
DIGITS = {1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 7.5, 8, 9}  # leading digits of the numbers that people choose
UNSURE = 0.5  # readings of lower scores are none
SPACE = 2.0  # heights of the text between a number and its unit, at most
LONGEST = 14  # characters: longer lines are those of a databar, whose lengths are working distances
MARGINS = (0.1, 0.0), (0.4, 0.2)  # heights of the text that are read around it, beside and above
ENLARGED = 64  # px
# And how tall in px, and the blur in px.
VIEWS = *((*margins, ENLARGED, 0.0) for margins in MARGINS), (0.2, 0.1, 48, 0.0), (0.2, 0.1, 48, 0.7)
MAJORITY = 3  # of the first reading and the views
AMONG = re.compile(r"\d\s?(nm|[uµμ]m)", re.IGNORECASE)  # what a line with a length among other words has
LIKELY = re.compile(r"[\dlI].*\D|^(nm|[uµμ]m)$", re.IGNORECASE)  # what may be a length, or the end of one
BEFORE = 3.0  # heights of the text in front of a unit that a number may take
CORNER = 0.25, 0.55  # of a picture's height and width that are looked at again where no length is found
ABOVE = 4  # rows above an information bar that are looked at with it
SEAM = 0.1  # of a corner's height between the two
RANGE = {"nm": (1, 2000), "um": (0.05, 2000), "mm": (0.1, 10)}


def length_nm(text: str) -> float | None:
    """The length in nm that a text names, if it is nothing else and of a size that scale bars have.

    `pm` or a bare `m` give None: they are how a misread µm looks.
    """
    found = LENGTH.fullmatch(text.strip())
    if not found or RECIPROCAL.search(text):
        return None
    # Alike in many typefaces.
    spelt = "1" if found["number"] in ONES else re.sub("[OD]", "0", found["number"].upper())
    if not spelt[0].isdigit():
        return None
    thousands = re.fullmatch(r"[1-9],000", spelt)
    number = float(spelt.replace(",", "" if thousands else "."))
    if re.match(r"0\d", spelt) or number == 0:
        return None  # its first digits are lost
    unit = re.sub("[µμ]", "u", found["unit"].lower()).replace("r", "m")  # an m that the picture's border cuts
    low, high = RANGE[unit]
    leading = float(f"{number:e}".split("e")[0])
    if not low <= number <= high or leading not in DIGITS:
        return None
    return number * NM[unit]


class Reader:
    """Reads the writing on micrographs; building one loads the OCR library's networks.

    Args:
        threads: for the networks; None lets onnxruntime take every core.

    Raises:
        ImportError: where the extra `ocr` is not installed.
    """

    def __init__(self, threads: int | None = None):
        from rapidocr import RapidOCR  # an extra, and slow to import

        self._ocr: Any = RapidOCR(  # what it returns depends on what it is asked
            params={
                "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
                "Global.log_level": "error",
                "Global.text_score": UNSURE,
                "Det.box_thresh": 0.3,  # of grey writing on grey: what is no writing does not spell a length
            }
        )

    def lengths(self, grey: np.ndarray) -> list[tuple[Box, float]]:
        """Where lengths are written on a micrograph uint8 `[H, W]`, and how long they are in nm.

        Each is read again by itself, enlarged; it counts if these readings confirm the first and none contradicts it.
        """
        writing = self._writing(grey)
        lengths = self._confirmed(grey, writing)
        if not lengths:
            small = self._small_writing(grey)
            lengths = self._confirmed(grey, small) or self._elected(grey, small) or self._elected(grey, writing)
        return lengths or self._elected(grey, self._writing_in_bar(grey))

    def _confirmed(self, grey: np.ndarray, writing: list[tuple[Box, str]]) -> list[tuple[Box, float]]:
        lengths = []
        for box, text in [*writing, *_joined(writing)]:
            if not re.search(r"[\dlI].*\D", text) or len(text) > LONGEST:
                continue
            again = [length_nm(self._read(_enlarged(grey, box, *margins))) for margins in MARGINS]
            first = length_nm(text)
            # What was misread among the rest of the picture counts if it is sure by itself.
            enough = {first} if first is not None else set(again)
            if {nm for nm in again if nm is not None} == enough and None not in enough:
                lengths.append((box, enough.pop()))
        return lengths

    def _elected(self, grey: np.ndarray, writing: list[tuple[Box, str]]) -> list[tuple[Box, float]]:
        """Lengths that most of several readings of the writing alone, without a bar that touches it, agree on."""
        lengths = []
        for box, text in [*writing, *_joined(writing), *_begun(writing)]:
            if not LIKELY.search(text) or len(text) > LONGEST:
                continue
            alone = without_lines(grey, box)
            views = [_enlarged(grey, alone, *view) for view in VIEWS]
            votes = _votes([text, *map(self._read, views)])
            if len(votes) == 1 and votes.total() >= MAJORITY:
                lengths.append((alone, *votes))
        return lengths

    def _writing(self, grey: np.ndarray) -> list[tuple[Box, str]]:
        """All writing on a picture uint8 `[H, W]` and where it stands: lines, and lengths among other words."""
        found = self._ocr(_as_rgb(grey), use_det=True, use_cls=False, use_rec=True, return_word_box=False)
        if found.boxes is None:
            return []
        lines = [(_around(corners, grey.shape), text) for corners, text in zip(found.boxes, found.txts, strict=True)]
        among = [box for box, text in lines if AMONG.search(text) and length_nm(text) is None]
        return lines + [length for box in among for length in _lengths_among(self._words(grey, box))]

    def _words(self, grey: np.ndarray, line: Box) -> list[tuple[Box, str]]:
        """The words of a line of writing and where they stand."""
        crop = _as_rgb(grey[line.y0 : line.y1, line.x0 : line.x1])
        read = self._ocr(crop, use_det=False, use_cls=False, use_rec=True, return_word_box=True)
        if not read.txts:
            return []
        words = read.word_results[0]
        column = line.width / max(words.line_txt_len, 1)  # the network reads a line column by column
        return [
            (
                Box(
                    max(line.x0 + int((columns[0] - 0.5) * column), line.x0),
                    line.y0,
                    min(line.x0 + int((columns[-1] + 1.5) * column), line.x1),
                    line.y1,
                ),
                "".join(letters),
            )
            for letters, columns in zip(words.words, words.word_cols, strict=True)
        ]

    def _writing_in_bar(self, grey: np.ndarray) -> list[tuple[Box, str]]:
        """The writing in the information bar, if there is one, and a little above it, seen at twice the size."""
        first = find_information_bar(grey)
        if first == len(grey):
            return []
        top = max(first - ABOVE, 0)
        bar = Image.fromarray(grey[top:])
        large = bar.resize((2 * bar.width, 2 * bar.height), Image.Resampling.BICUBIC)
        return [
            (Box(box.x0 // 2, top + box.y0 // 2, -(-box.x1 // 2), top + -(-box.y1 // 2)), text)
            for box, text in self._writing(np.asarray(large))
        ]

    def _small_writing(self, grey: np.ndarray) -> list[tuple[Box, str]]:
        """The writing in the lower corners, which most bars stand in, seen at twice the size.

        The network sees every picture at one size: two corners, one over the other, are half a picture.
        """
        tall, wide = (round(share * side) for share, side in zip(CORNER, grey.shape, strict=True))
        top, starts = grey.shape[0] - tall, (0, grey.shape[1] - wide)
        # The network wants room below a line of writing.
        apart = tall + round(SEAM * tall)
        corners = np.empty((2, apart, wide), grey.dtype)
        for corner, start in zip(corners, starts, strict=True):
            corner[:tall] = grey[top:, start : start + wide]
            corner[tall:] = np.median(corner[tall - 1])
        writing = []
        for box, text in self._writing(corners.reshape(2 * apart, wide)):
            corner = box.y0 // apart
            low, high = box.y0 - corner * apart, min(box.y1 - corner * apart, tall)
            cut = box.x1 + box.height / 2 > wide if corner == 0 else box.x0 - box.height / 2 < 0
            if cut or low >= tall or box.y1 > (corner + 1) * apart:
                continue  # the number's beginning may stand in the other corner
            dx = starts[corner]
            writing.append((Box(box.x0 + dx, low + top, box.x1 + dx, high + top), text))
        return writing

    def _read(self, line: np.ndarray) -> str:
        """The writing on a picture uint8 `[H, W]` of one line."""
        read = self._ocr(_as_rgb(line), use_det=False, use_cls=False, use_rec=True, return_word_box=False)
        return read.txts[0] if read.txts and read.scores[0] > UNSURE else ""


def _votes(readings: Sequence[str]) -> Counter[float]:
    """How many readings name each length in nm; units that are misread in one way alone count as what they are.

    A point is overlooked, not imagined: who reads it is right against fewer who read the same digits without it.
    """
    votes = Counter(nm for nm in map(_length_of_misread, readings) if nm is not None)
    for spelt in readings:
        nm, pointless = _length_of_misread(spelt), _length_of_misread(re.sub("[.,]", "", spelt))
        if nm is not None and pointless is not None and nm != pointless and 0 < votes[pointless] < votes[nm]:
            votes[nm] += votes.pop(pointless)
    return votes


def _length_of_misread(text: str) -> float | None:
    return length_nm(re.sub("(pm|ri?m)", lambda unit: MISREAD[unit[0]], text))


def _lengths_among(words: list[tuple[Box, str]]) -> list[tuple[Box, str]]:
    """The lengths that stand between other words of a line, as between a voltage and a working distance.

    What follows a word without a digit is what that word says: HFW, WD, =.
    """
    lengths = []
    for first in range(len(words)):
        if first and not re.search(r"\d", words[first - 1][1]):
            continue
        for last in (first + 1, first + 2):
            part = words[first:last]
            text = " ".join(word for _, word in part)
            nm = length_nm(text)
            if nm is not None and nm < NM["mm"] and len(part) == last - first < len(words):
                lengths.append((Box(part[0][0].x0, part[0][0].y0, part[-1][0].x1, part[-1][0].y1), text))
    return lengths


def _joined(writing: list[tuple[Box, str]]) -> list[tuple[Box, str]]:
    """Numbers and the units that follow them on the same line, for a wide space parts them."""
    numbers = [(box, text) for box, text in writing if NUMBER.fullmatch(text)]
    joined = []
    for unit, spelt in writing:
        if not UNIT.fullmatch(spelt):
            continue
        for box, number in numbers:
            height = max(box.height, unit.height)
            same_line = gap(box.y0, box.y1, unit.y0, unit.y1) < -height / 2
            if same_line and box.x1 - height / 2 <= unit.x0 <= box.x1 + SPACE * height:
                both = Box(box.x0, min(box.y0, unit.y0), unit.x1, max(box.y1, unit.y1))
                joined.append((both, f"{number} {spelt}"))
    return joined


def _begun(writing: list[tuple[Box, str]]) -> list[tuple[Box, str]]:
    """Units without a number, with the place in front of them where it may stand unseen."""
    return [
        (Box(max(int(box.x0 - BEFORE * box.height), 0), box.y0, box.x1, box.y1), text)
        for box, text in writing
        if UNIT.fullmatch(text)
    ]


def _as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _around(corners: np.ndarray, shape: tuple[int, ...]) -> Box:
    """The box around corners `[4, 2]` (x, y), within the image."""
    x0, y0 = np.maximum(np.floor(np.min(corners, axis=0)), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(np.max(corners, axis=0)), shape[1::-1]).astype(int).tolist()
    return Box(x0, y0, x1, y1)


def _enlarged(
    grey: np.ndarray, box: Box, beside: float, above: float, tall: int = ENLARGED, blur: float = 0
) -> np.ndarray:
    """A box with margins in heights of the text, its contrast stretched, as tall as the network sees it and more."""
    dx, dy = int(beside * box.height), int(above * box.height)
    crop = grey[max(box.y0 - dy, 0) : box.y1 + dy, max(box.x0 - dx, 0) : box.x1 + dx]
    size = max(round(tall * crop.shape[1] / crop.shape[0]), 8), tall
    image = Image.fromarray(percentile_normalise_to_uint8(crop, 0, 100)).filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
