"""Databars as the vendors' microscopes lay them out, of a known scale, for tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont


@dataclass(frozen=True)
class Databar:
    """Pixels uint8 `[h, W]`; the scale bar in them is `length_px` px long, which stand for `text`."""

    pixels: np.ndarray
    length_px: int
    text: str


def font(size: float, typeface: str = "DejaVuSans.ttf") -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf", typeface)), max(int(size), 9))


class Sheet:
    """A bar to draw on: `paper` with `ink`, in px from its upper left corner."""

    def __init__(self, width: int, height: int, paper: int, ink: int, typeface: str = "DejaVuSans.ttf"):
        self.image = Image.new("L", (width, height), paper)
        self.draw, self.ink, self.typeface = ImageDraw.Draw(self.image), ink, typeface

    def text(self, x: float, y: float, words: str, size: float, anchor: str = "lm") -> None:
        self.draw.text((x, y), words, fill=self.ink, font=font(size, self.typeface), anchor=anchor)

    def line(self, left: int, right: int, y: int, thick: int = 1) -> None:
        """Over the columns left to right (exclusive)."""
        self.draw.rectangle((left, y, right - 1, y + thick - 1), fill=self.ink)

    def upright(self, x: int, top: int, bottom: int, thick: int = 1) -> None:
        self.draw.rectangle((x, top, x + thick - 1, bottom - 1), fill=self.ink)

    def done(self, length: int, text: str) -> Databar:
        return Databar(np.asarray(self.image), length, text)


def fei(width: int, length: int, text: str) -> Databar:
    """Cells in two rows; the line of the scale on both sides of its text, with ticks."""
    h = max(width // 14, 44)
    sheet = Sheet(width, h, 0, 255)
    for y in (0, h // 2, h - 1):
        sheet.line(0, int(width * 0.62) if y == h // 2 else width, y)
    names, values = ("HV", "WD", "mag", "det", "HFW"), ("5.00 kV", "4.1 mm", "20 000 x", "TLD", "12.8")
    for k, (name, value) in enumerate(zip(names, values, strict=True)):
        x = int(width * 0.62 * k / 5)
        sheet.upright(x, 0, h)
        sheet.text(x + 6, h * 0.26, name, h * 0.26)
        sheet.text(x + 6, h * 0.76, value, h * 0.26)
    sheet.upright(int(width * 0.62), 0, h)
    middle, y = int(width * 0.81), int(h * 0.3)
    left = middle - length // 2
    wide = int(font(h * 0.3).getlength(text) / 2 + h * 0.12)
    sheet.line(left, middle - wide, y)
    sheet.line(middle + wide, left + length, y)
    sheet.upright(left, y - h // 10, y + h // 10 + 1)
    sheet.upright(left + length - 1, y - h // 10, y + h // 10 + 1)
    sheet.text(middle, y, text, h * 0.3, "mm")
    sheet.text(middle, h * 0.76, "Helios NanoLab", h * 0.26, "mm")
    return sheet.done(length, text)


def zeiss(width: int, length: int, text: str) -> Databar:
    """Black on white, the scale with ticks below its text at the left, the maker's block at the right."""
    h = max(width // 14, 44)
    sheet = Sheet(width, h, 255, 0)
    left, y = int(width * 0.02), int(h * 0.68)
    sheet.text(left, h * 0.26, text, h * 0.28)
    sheet.line(left, left + length, y)
    for x in (left, left + length - 1):
        sheet.upright(x, y - h // 7, y + h // 7 + 1)
    for k, (above, below) in enumerate((("EHT = 5.00 kV", "WD = 4.1 mm"), ("Signal A = SE2", "Mag = 10.00 K X"))):
        x = max(left + length + 20, width * 0.35) + k * width * 0.25
        sheet.text(x, h * 0.28, above, h * 0.26)
        sheet.text(x, h * 0.72, below, h * 0.26)
    sheet.draw.rectangle((width - h * 1.4, h * 0.15, width - h * 0.2, h * 0.85), fill=0)
    return sheet.done(length, text)


def jeol(width: int, length: int, text: str) -> Databar:
    """One line of writing, the scale above its text."""
    h = max(width // 20, 36)
    sheet = Sheet(width, h, 0, 255)
    for share, words in ((0.04, "SEI"), (0.16, "15.0kV"), (0.3, "X25,000"), (0.84, "WD 8.0mm")):
        sheet.text(width * share, h * 0.62, words, h * 0.46)
    middle = int(width * 0.65)
    sheet.text(middle, h * 0.65, text, h * 0.46, "mm")
    sheet.line(middle - length // 2, middle - length // 2 + length, int(h * 0.14), 3)
    return sheet.done(length, text)


def hitachi(width: int, length: int, text: str) -> Databar:
    """One line of writing, eleven ticks above the text at the right."""
    h = max(width // 16, 40)
    sheet = Sheet(width, h, 0, 255)
    length = length // 10 * 10
    sheet.text(6, h * 0.68, "S-4800 5.0kV 8.2mm x20.0k SE(M)", h * 0.4)
    sheet.text(width - 8, h * 0.7, text.replace(" ", "").replace("µ", "u"), h * 0.42, "rm")
    for k in range(11):
        sheet.upright(width - 14 - length + k * length // 10, int(h * 0.1), int(h * 0.36), 2)
    return sheet.done(length, text)


def tescan(width: int, length: int, text: str) -> Databar:
    """Three rows of cells, the scale with ticks in the middle one and its text below it."""
    h = max(width // 10, 66)
    sheet = Sheet(width, h, 0, 255)
    rows = ("SEM HV: 10.0 kV", "View field: 20.0", "SEM MAG: 13.8 kx"), ("WD: 5.12 mm", "Det: SE", "Date: 02/11/19")
    for k in (1, 2):
        sheet.line(0, int(width * 0.5), h * k // 3)
    for column, words in enumerate(rows):
        for row, word in enumerate(words):
            sheet.text(width * (0.01 + 0.27 * column), h * (row + 0.5) / 3, word, h * 0.17)
    sheet.upright(int(width * 0.27), 0, h)
    sheet.upright(int(width * 0.5), 0, h)
    left, y = int(width * 0.52), int(h * 0.35)
    sheet.line(left, left + length, y, 2)
    for x in (left, left + length - 2):
        sheet.upright(x, y - h // 10, y + h // 10 + 2, 2)
    sheet.text(left + length / 2, h * 0.6, text, h * 0.19, "mm")
    sheet.text(width * 0.99, h * 0.85, "VEGA3 TESCAN", h * 0.19, "rm")
    return sheet.done(length, text)


def phenom(width: int, length: int, text: str) -> Databar:
    """Grey, the scale at the left and its text beside it, settings after."""
    h = max(width // 20, 36)
    sheet = Sheet(width, h, 40, 235)
    left, y = int(width * 0.02), h // 2
    sheet.line(left, left + length, y - 1, 3)
    sheet.text(left + length + h * 0.35, y, text, h * 0.44)
    for share, words in ((0.6, "BSD Full"), (0.78, "15kV - Image")):
        sheet.text(width * share, y, words, h * 0.4)
    return sheet.done(length, text)


LAYOUTS: dict[str, Callable[[int, int, str], Databar]] = {
    "FEI": fei,
    "Zeiss": zeiss,
    "JEOL": jeol,
    "Hitachi": hitachi,
    "TESCAN": tescan,
    "Phenom": phenom,
}
