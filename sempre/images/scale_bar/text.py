"""The text of a scale bar: what an OCR library reads, and which readings are lengths."""

import re
from dataclasses import dataclass

from sempre.images.scale_bar.geometry import Box

# A length as it stands beside a bar, and what an OCR may see of the bar or of a frame around it.
LENGTH = re.compile(r"[\W_|]*?(?P<number>\d+(?:[.,]\d+)?)\s?(?P<unit>nm|[uµμ]m|mm)[\W_|]*", re.IGNORECASE)
NM = {"nm": 1.0, "um": 1e3, "mm": 1e6}
DIGITS = {1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 7.5, 8, 9}  # leading digits of the numbers that people choose
RANGE = {"nm": (1, 2000), "um": (0.05, 2000), "mm": (0.1, 10)}


@dataclass(frozen=True)
class Reading:
    """What stands in a box of the image, and how sure the OCR is of it (0 to 1)."""

    box: Box
    text: str
    score: float


def length_nm(text: str) -> float | None:
    """The length in nm that a text names, if it is nothing else and of a size that scale bars have.

    `pm` or a bare `m` give None: they are how a misread µm looks.
    """
    found = LENGTH.fullmatch(text.strip())
    if not found:
        return None
    spelt = found["number"]
    thousands = re.fullmatch(r"[1-9],000", spelt)
    number = float(spelt.replace(",", "" if thousands else "."))
    if re.match(r"0\d", spelt) or number == 0:
        return None  # its first digits are lost
    unit = re.sub("[µμ]", "u", found["unit"].lower())
    low, high = RANGE[unit]
    leading = float(f"{number:e}".split("e")[0])
    if not low <= number <= high or leading not in DIGITS:
        return None
    return number * NM[unit]
