"""What is burnt into micrographs: databars, scale bars, letters of panels, arrows, captions.

None of it is a particle. A particle under a thin line or a letter keeps its label there, as a person would label
through; one that ink hides more than half, and what lies under an opaque box or databar, loses what is hidden.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

# Typefaces that matplotlib brings: with and without serifs, bold, slanted, a typewriter's; "" is Pillow's own.
TYPEFACES = (
    "",
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSansMono.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "cmr10.ttf",
)
WRITING_SIZES = 8, 90  # px of type in a crop of a micrograph that may be enlarged
CAPTIONS = (
    "Au NPs",
    "500 C, 2 h",
    "CONTROL",
    "TiO2",
    "as received",
    "x 20,000",
    "20 kV  WD 9.8",
    "HV=80kV",
    "EDS 1",
    "d = 32",
)
LETTERS = [shape.format(letter) for letter in "abcdefghABCDEF" for shape in ("({})", "{})", "{}")]
WORDS = ("SEI", "HAADF", "WD 10mm", "15.0kV", "x30,000", "Mag = 10.00 K X", "EHT = 5.00 kV", "122 mrad", "7.0 ± 3.1 nm")
SCALES = [
    f"{digit}{gap}{unit}"
    for digit in (1, 2, 5, 10, 20, 50, 100, 200, 500)
    for gap in ("", " ")
    for unit in ("nm", "µm", "um")
]
TEXTS = (*LETTERS, *CAPTIONS, *WORDS, *SCALES)
LENGTHS = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]  # round numbers of nm
MOSTLY = 0.5  # a particle of which ink hides more than this loses the hidden part


def information_bar(width: int, pixel_size_nm: float, random: np.random.Generator) -> np.ndarray:
    """A databar uint8 `[h, width]`: voltage, working distance, magnification, detector and scale bar."""
    paper, ink = [(0, 255), (255, 0), (0, 230)][random.integers(3)]
    height = max(int(width * random.uniform(0.06, 0.11)), 12)
    bar = Image.new("L", (width, height), paper)
    draw = ImageDraw.Draw(bar)
    font = ImageFont.load_default(max(height * 0.36, 6))
    length = _round_length(width / 4 * pixel_size_nm)
    left, right = width * 0.03, width * 0.03 + length / pixel_size_nm
    draw.rectangle((left, height * 0.72, right, height * 0.82), fill=ink)
    draw.text(((left + right) / 2, height * 0.36), _spelt(length), fill=ink, font=font, anchor="mm")
    magnification = 127e6 / (width * pixel_size_nm)  # on a print 127 mm wide, the convention since Polaroid 4x5
    volts, distance = random.choice([1, 2, 3, 5, 10, 15]), random.uniform(2, 10)
    draw.text((width * 0.34, height * 0.28), f"EHT = {volts:.2f} kV", fill=ink, font=font, anchor="lm")
    draw.text((width * 0.34, height * 0.72), f"WD = {distance:.1f} mm", fill=ink, font=font, anchor="lm")
    draw.text((width * 0.66, height * 0.28), f"Mag = {magnification / 1e3:.2f} K X", fill=ink, font=font, anchor="lm")
    draw.text((width * 0.66, height * 0.72), "Signal A = SE2", fill=ink, font=font, anchor="lm")
    return np.asarray(bar)


def _round_length(longest: float) -> int:
    """The longest round number of nm up to `longest`."""
    return max((nm for nm in LENGTHS if nm <= longest), default=1)


def _spelt(length: int) -> str:
    return f"{length} nm" if length < 1000 else f"{length // 1000} um"  # Pillow's own font has no µ


@lru_cache(maxsize=512)
def _font(typeface: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if not typeface:
        return ImageFont.load_default(size)
    import matplotlib  # where letters are drawn, for it takes half a second that no --help need wait for

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf", typeface)), size)


def annotate(
    pixels: np.ndarray, owner: np.ndarray, pixel_size_nm: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Burn annotations into pixels uint8 `[H, W]`; returns them and the owners `[H, W]` that stay labelled."""
    overlay = Overlay(pixels, str(random.choice(TYPEFACES)))
    corners = list(random.permutation([(0, 0), (1, 0), (0, 1), (1, 1)]))
    if random.random() < 0.2:
        overlay.databar(pixel_size_nm, random)
    elif random.random() < 0.12:
        overlay.status_line(pixel_size_nm, random)
    if random.random() < 0.6:
        overlay.scale_bar(corners.pop(), pixel_size_nm, random)
    if random.random() < 0.5:
        overlay.letter(corners.pop(), random)
    if random.random() < 0.2:
        overlay.caption(corners.pop(), random)
    if random.random() < 0.15:
        overlay.arrows(random)
    return np.asarray(overlay.image), overlay.kept(owner)


def write_over(pixels: np.ndarray, owner: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Burn writing as a crop of an enlarged micrograph shows it, as `annotate` does: large, blurred, cut off."""
    overlay = Overlay(pixels, str(random.choice(TYPEFACES)))
    for _ in range(int(random.integers(1, 5))):
        overlay.writing(random)
    image = np.asarray(overlay.image)
    if random.random() < 0.5:
        blur = random.uniform(0.5, 2.5)
        near = (
            ndimage.maximum_filter(np.maximum(np.asarray(overlay.ink), np.asarray(overlay.boxes)), int(4 * blur) + 1)
            > 0
        )
        image = np.where(near, ndimage.gaussian_filter(image, blur, truncate=3), image)
    return image, overlay.kept(owner)


class Overlay:
    """A micrograph to draw on, and where it is hidden: `image`; `ink` and `boxes`, nonzero where hidden by either."""

    def __init__(self, pixels: np.ndarray, typeface: str = ""):
        self.typeface = typeface
        self.image = Image.fromarray(pixels)
        self.ink, self.boxes = Image.new("L", self.image.size), Image.new("L", self.image.size)
        self.width, self.height = self.image.size

    def kept(self, owner: np.ndarray) -> np.ndarray:
        """The owners `[H, W]` that stay labelled."""
        ink, boxes = np.asarray(self.ink) > 0, np.asarray(self.boxes) > 0
        areas, inked = np.bincount(owner.ravel()), np.bincount(owner[ink], minlength=owner.max() + 1)
        lost = inked > MOSTLY * areas
        return np.where(boxes | (ink & lost[owner]), 0, owner)

    def databar(self, pixel_size_nm: float, random: np.random.Generator) -> None:
        """A databar over the lowest rows."""
        bar = Image.fromarray(information_bar(self.width, pixel_size_nm, random))
        self.height -= bar.height  # what follows stays clear of it
        self.image.paste(bar, (0, self.height))
        self.boxes.paste(255, (0, self.height, self.width, self.height + bar.height))

    def status_line(self, pixel_size_nm: float, random: np.random.Generator) -> None:
        """Settings and a scale of dots, written over the lowest rows of the field itself."""
        size = self._size(0.025, 0.045, random)
        volts, power = random.choice([3.0, 5.0, 15.0, 20.0]), 127 / (self.width * pixel_size_nm) * 1e3
        y, ink = self.height - size, int(random.choice([0, 255, 255]))
        self._text((size / 2, y), f"{volts:.1f}kV {power:.2f}k SE(M)", size, ink, "lm", random)
        length = _round_length(self.width / 3 * pixel_size_nm)
        step, right = min(length / pixel_size_nm, 0.4 * self.width) / 10, self.width - size / 2
        for dot in range(11):
            x = right - step * dot
            self._draw("line", (x, y - size * 0.9, x, y - size * 0.6), fill=ink, width=2)
        self._text((right, y), _spelt(length), size, ink, "rm", random)
        self.height -= int(2 * size)

    def scale_bar(self, corner, pixel_size_nm: float, random: np.random.Generator) -> None:
        """A bar of a round length in a corner with its length above or below it, or without."""
        length = _round_length(self.width * random.uniform(0.1, 0.4) * pixel_size_nm)
        long = min(length / pixel_size_nm, 0.5 * self.width)
        thick = max(self.width * random.uniform(0.003, 0.018), 1)
        size = self._size(0.03, 0.08, random)
        label = "" if random.random() < 0.15 else _spelt(length)
        tall = thick + (size * 1.3 if label else 0)
        wide = max(long, self._width(label, size))
        x, y = self._place(corner, wide, tall, random)
        ink = self._ink((x, y, x + wide, y + tall), 0.35, random)
        above = random.random() < 0.7
        top = y + tall - thick if above else y
        left = x + (wide - long) / 2
        self._draw("rectangle", (left, top, left + long, top + thick), fill=ink)
        if label:
            self._text(
                (x + wide / 2, y + size * 0.6 if above else y + thick + size * 0.65), label, size, ink, "mm", random
            )

    def letter(self, corner, random: np.random.Generator) -> None:
        """The letter of a panel in a corner."""
        letter = str(random.choice(list("abcdefghABCDEF")))
        text = [f"({letter})", f"{letter})", letter][random.integers(3)]
        size = self._size(0.05, 0.13, random)
        wide, tall = self._width(text, size), size * 1.1
        x, y = self._place(corner, wide, tall, random)
        ink = self._ink((x, y, x + wide, y + tall), 0.25, random)
        self._text((x + wide / 2, y + tall / 2), text, size, ink, "mm", random)

    def caption(self, corner, random: np.random.Generator) -> None:
        """A few words."""
        text = CAPTIONS[random.integers(len(CAPTIONS))]
        size = self._size(0.03, 0.07, random)
        wide, tall = self._width(text, size), size * 1.2
        x, y = self._place(corner, wide, tall, random)
        ink = self._ink((x, y, x + wide, y + tall), 0.2, random)
        self._text((x + wide / 2, y + tall / 2), text, size, ink, "mm", random)

    def arrows(self, random: np.random.Generator) -> None:
        """Arrows that point at something, dashed frames, or the line of a measured diameter."""
        ink, thick = int(random.choice([0, 255])), int(random.integers(1, 4))
        for _ in range(int(random.integers(1, 4))):
            x, y = random.uniform(0.1, 0.9, 2) * (self.width, self.height)
            length, azimuth = self.width * random.uniform(0.04, 0.15), random.uniform(0, 2 * np.pi)
            tip = x + length * np.cos(azimuth), y + length * np.sin(azimuth)
            self._draw("line", (x, y, *tip), fill=ink, width=thick)
            for side in (azimuth + 2.6, azimuth - 2.6):
                barb = tip[0] + 0.3 * length * np.cos(side), tip[1] + 0.3 * length * np.sin(side)
                self._draw("line", (*tip, *barb), fill=ink, width=thick)

    def writing(self, random: np.random.Generator) -> None:
        """A piece of writing of any size anywhere, cut by the border perhaps, at times with a scale bar."""
        size = float(np.exp(random.uniform(*np.log(WRITING_SIZES))))
        text = TEXTS[random.integers(len(TEXTS))]
        wide, tall = self._width(text, size), size * 1.1
        x, y = random.uniform(-0.2, 1, 2) * (self.width, self.height)
        ink = self._ink((x, y, x + wide, y + tall), 0.25, random)
        self._text((x + wide / 2, y + tall / 2), text, size, ink, "mm", random)
        if random.random() < 0.4:
            top, long = y + tall * random.uniform(1, 1.3), wide * random.uniform(0.4, 3)
            self._draw("rectangle", (x, top, x + long, top + size * random.uniform(0.08, 0.4)), fill=ink)

    def _width(self, text: str, size: float) -> float:
        """Of a line of text, px."""
        return _font(self.typeface, int(size)).getlength(text) + 2

    def _size(self, low, high, random) -> float:
        """Size of type, px."""
        return max(self.width * random.uniform(low, high), 8)

    def _place(self, corner, wide, tall, random) -> tuple[float, float]:
        """Upper left corner of what is `wide` x `tall` px and lies near a corner of the field."""
        margin = self.width * random.choice([0.005, random.uniform(0.01, 0.06)])
        right, lower = corner
        return (self.width - wide - margin if right else margin), (self.height - tall - margin if lower else margin)

    def _ink(self, box, boxed: float, random) -> int:
        """A grey to write with in `box`, which is filled first with probability `boxed`."""
        if random.random() < boxed:
            paper = int(random.choice([0, 255]))
            x0, y0, x1, y1 = box
            pad = 0.1 * (y1 - y0) + 2
            for image, grey in ((self.image, paper), (self.boxes, 255)):
                ImageDraw.Draw(image).rectangle((x0 - pad, y0 - pad, x1 + pad, y1 + pad), fill=grey)
            return 255 - paper
        # What reads well, as an author chooses.
        x0, y0, x1, y1 = (int(bound) for bound in box)
        middle = np.mean(np.asarray(self.image.crop((x0, y0, x1, y1))))
        return 255 if middle < random.uniform(90, 150) else 0

    def _text(self, place, text, size, ink, anchor, random) -> None:
        font, stroke = _font(self.typeface, int(size)), int(size * random.choice([0, 0, 0.035, 0.08]))
        self._draw("text", place, text, font=font, anchor=anchor, stroke_width=stroke, fill=ink)

    def _draw(self, shape: str, *where, fill: int, **style) -> None:
        """Draw on the image and note the ink."""
        getattr(ImageDraw.Draw(self.image), shape)(*where, fill=fill, **style)
        getattr(ImageDraw.Draw(self.ink), shape)(*where, fill=255, **style)
