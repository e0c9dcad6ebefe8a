"""Which pages of a TIFF are pictures of their own, and their pixels: no thumbnail, mask or smaller copy is taken."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from sempre.errors import InputError
from sempre.images.claims import MAX_PIXELS, check_packing, check_size, open_by_pillow
from sempre.images.levels import ALPHA, page_levels, refuse_complex, samples_of_colour, to_grey

REDUCED, MASK = 1, 4  # bits of the tag NewSubfileType
OLD_SUBFILE_TYPE, OLD_REDUCED = 255, 2
MOST_SUBIFDS = 100  # pages within a page; a damaged list would be walked for minutes
NOT_THE_PICTURE = re.compile(r"^\s*(label|macro|thumbnail)\b", re.IGNORECASE | re.MULTILINE)  # slide scanners' names
PAGE_NAME = 285
COPY, ALIKE, MOST_COMPARED = 0.5, 0.9, 32  # a copy's largest share of a side, its least correlation, how many are tried
LARGE = 0.3  # of the largest page's area: the first page that has it is the one taken
JPEG = (tifffile.COMPRESSION.JPEG,)  # whose colours tifffile decodes; others' chroma may be stored at fewer places


@dataclass(frozen=True)
class TiffPicture:
    """A page that is a picture, or the `part` of one that holds several as planes, channels or a whole stack."""

    page: tifffile.TiffPage
    part: int = 0
    parts: int = 1


def tiff_pictures(path: Path, file: tifffile.TiffFile) -> tuple[list[TiffPicture], int]:
    """The pictures of a TIFF in their order, and the index of the one that is taken where nobody says.

    Pages marked as smaller copies or masks, pages within pages, slide scanners' labels and smaller copies that are not
    marked are none. The first picture is taken that is not far smaller than the largest.

    Raises:
        InputError: for a file without any, and for a damaged page.
    """
    if len(file.pages) == 1 and (images := _images_behind(file)) > 1:
        return [TiffPicture(file.pages.first, part, images) for part in range(images)], 0
    pages = [page for page in _pages(file) if not is_marked(page)]
    if not pages:
        pages = [page for page in _pages(file) if not _is_mask(page)]
        pages = sorted(pages, key=_area)[-1:]
    if not pages:
        raise InputError(f"{path} holds a transparency mask and no picture: save the picture itself")
    pages = _without_copies(path, pages)
    least = LARGE * max(map(_area, pages))
    taken = next(page for page in pages if _area(page) >= least)
    pictures = [TiffPicture(page, part, parts) for page in pages for parts in [_parts(page)] for part in range(parts)]
    return pictures, next(index for index, picture in enumerate(pictures) if picture.page is taken)


def picture_levels(path: Path, picture: TiffPicture, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Levels `[H, W]` or `[H, W, 3]` of a picture, brighter is larger.

    Raises:
        InputError: for a page that its header says cannot be read, see `check_tiff_page`.
        ValueError: for complex numbers, and for a colour model that is not known.
    """
    page = picture.page
    check_tiff_page(path, page, max_pixels)
    if page.dtype is None:
        raise ValueError(
            f"its pixels are of a kind that is not read (sample format {page.sampleformat}, {page.bitspersample} bits)"
        )
    refuse_complex(np.dtype(page.dtype))
    if page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in JPEG:
        return _ycbcr(path, page)
    if picture.parts > 1 and page.imagedepth == 1 and page.samplesperpixel == 1:
        return page_levels(page, np.array(tifffile.memmap(path, mode="r").reshape(-1, *page.shape)[picture.part]))
    pixels = stored_samples(page, page.asarray(), picture.part)
    return page_levels(page, pixels)


def stored_levels(page: tifffile.TiffPage, pixels: np.ndarray) -> np.ndarray:
    """Levels `[H, W]` or `[H, W, 3]`, brighter is larger, of a page's pixels as tifffile gives them."""
    return page_levels(page, stored_samples(page, pixels))


def stored_samples(page: tifffile.TiffPage, pixels: np.ndarray, part: int = 0) -> np.ndarray:
    """`[H, W]` or `[H, W, S]` of a page's pixels, which may have planes in front and samples in planes."""
    if page.imagedepth > 1:
        depth, part = page.axes.index("Z"), part
        pixels = np.take(pixels, part, axis=depth)
        part = 0
    if page.samplesperpixel == 1:
        return pixels.reshape(page.imagelength, page.imagewidth)
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels[..., part : part + 1] if _parts(page) > 1 else pixels


def check_tiff_page(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame, max_pixels: int = MAX_PIXELS) -> None:
    """Check the header of a page before its pixels are read.

    Raises:
        InputError: for a page of more than `max_pixels` px, one that claims more than the file can hold, and one with a
            list of numbers in the place of a size.
    """
    header = page.keyframe
    assert header is not None  # tifffile sets it when it reads the page
    sizes = (header.imagelength, header.imagewidth, header.tilelength, header.tilewidth, header.samplesperpixel)
    if not all(isinstance(size, int) for size in sizes):
        raise InputError(f"{path} is damaged: its header has a list of numbers in the place of a size, copy it again")
    check_size(path, sizes[:2], max_pixels)
    tile = math.prod(sizes[2:]) * (header.dtype.itemsize if header.dtype else 1)
    check_packing(path, max(header.nbytes, tile))  # a tile is unpacked whole, whatever the page's size
    # Uncompressed strips that reach past the end of the file would be read as short arrays or zeros.
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > path.stat().st_size:
        raise InputError(f"{path} is truncated: its pixels end at byte {end}, the file at {path.stat().st_size}")


def check_few_copies(page: tifffile.TiffPage) -> None:
    """Raise ValueError for a page with so long a list of pages within it that it must be damaged."""
    copies = len(page.subifds or ())
    if copies > MOST_SUBIFDS:
        raise ValueError(f"a page lists {copies} smaller copies of itself")


def _pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Every page; one within another page only where it is larger, for then the outer one is its preview."""
    len(file.pages)  # walks the chain of pages at once: a ring, walked page by page, is not found to be one
    pages: list[tifffile.TiffPage] = []
    for page in file.pages:
        assert isinstance(page, tifffile.TiffPage)  # no frames: nothing has asked for the file's series
        check_few_copies(page)
        inner = list(page.pages or ()) if page.subifds else []
        larger = [within for within in inner if isinstance(within, tifffile.TiffPage) and _area(within) > _area(page)]
        pages += larger or [page]
    return pages


def is_marked(page: tifffile.TiffPage) -> bool:
    """Whether a page says that it is no picture of its own."""
    if _is_mask(page) or page.subfiletype & REDUCED or page.tags.valueof(OLD_SUBFILE_TYPE, 0) == OLD_REDUCED:
        return True
    texts = [str(page.tags.valueof(PAGE_NAME, ""))]
    if "aperio" in page.description.lower():
        texts.append(page.description)
    return any(NOT_THE_PICTURE.search(text) for text in texts)


def _is_mask(page: tifffile.TiffPage) -> bool:
    return bool(page.subfiletype & MASK) or page.photometric == tifffile.PHOTOMETRIC.MASK


def _area(page: tifffile.TiffPage) -> int:
    sizes = page.imagelength, page.imagewidth
    return math.prod(size if isinstance(size, int) else 0 for size in sizes)  # damaged headers hold lists


def _without_copies(path: Path, pages: list[tifffile.TiffPage]) -> list[tifffile.TiffPage]:
    """Pages without those that show the largest one, smaller: of the same proportions, with the same content."""
    largest = max(pages, key=_area)
    doubted = [page for page in pages if _has_the_proportions(page, largest)]
    if not doubted or len(doubted) > MOST_COMPARED:
        return pages
    whole = _grey_of(path, largest)
    copies = [page for page in doubted if _shows(_grey_of(path, page), whole)]
    return [page for page in pages if page not in copies]


def _shows(small: np.ndarray, whole: np.ndarray) -> bool:
    """Whether a picture `[h, w]` is a smaller copy of another `[H, W]`, averaged or thinned out, or inverted."""
    height, width = small.shape
    for shape in ((height, width), (max(height // 4, 4), max(width // 4, 4))):  # the latter without the noise
        one, other = (
            np.asarray(Image.fromarray(of).resize(shape[::-1], Image.Resampling.BOX)) for of in (small, whole)
        )
        if min(one.std(), other.std()) == 0 or abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) > ALIKE:
            return True
    return False


def _grey_of(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    return to_grey(picture_levels(path, TiffPicture(page, 0, _parts(page)))).astype(np.float32)


def _has_the_proportions(page: tifffile.TiffPage, of: tifffile.TiffPage) -> bool:
    if not _area(page) or not _area(of):
        return False
    height, width = page.imagelength, page.imagewidth
    if height > COPY * of.imagelength + 1 or width > COPY * of.imagewidth + 1:
        return False
    # Sides are rounded to whole px, up or down.
    return abs(width * of.imagelength - height * of.imagewidth) <= 1.5 * max(of.imagelength, of.imagewidth)


def _parts(page: tifffile.TiffPage) -> int:
    """The pictures of one page: its planes, or its samples where they are no colour."""
    if page.imagedepth > 1:
        return page.imagedepth
    if page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE):
        return 1
    extra = page.extrasamples if isinstance(page.extrasamples, tuple) else ()
    alphas = sum(kind in ALPHA for kind in extra)
    return max(page.samplesperpixel - samples_of_colour(page) - alphas, 0) + 1


def _images_behind(file: tifffile.TiffFile) -> int:
    """The pictures of a stack that describes its first page alone, as ImageJ's of more than 4 GB; else 1."""
    page = file.pages.first
    if not (file.is_imagej or '"truncated": true' in page.description) or not _area(page):
        return 1
    if page.compression != 1 or page.samplesperpixel != 1 or not page.nbytes:
        return 1
    series = file.series[0]
    images = math.prod(series.shape) // _area(page) if series.is_truncated else 1
    return images if (file.filehandle.size - page.dataoffsets[0]) // page.nbytes >= images else 1


def _ycbcr(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """Red, green and blue `[H, W, 3]` of YCbCr that is no JPEG, whose chroma may be stored at fewer places."""
    across, down = page.subsampling or (2, 2)
    if page.compression != tifffile.COMPRESSION.NONE or (across, down) == (1, 1):
        return _by_pillow(path, page)
    if page.bitspersample != 8 or page.samplesperpixel != 3 or page.is_tiled or min(across, down) < 1:
        raise ValueError("its colours are YCbCr in a layout that is not read: save it as grey or RGB")
    # Units of `across` x `down` px, in each the luma of every pixel and then both chromas (TIFF 6.0, section 21).
    columns, strips = -(-page.imagewidth // across), []
    size = across * down + 2
    for begin, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        page.parent.filehandle.seek(begin)
        units = np.frombuffer(page.parent.filehandle.read(count), np.uint8)
        rows = len(units) // (columns * size)
        units = units[: rows * columns * size].reshape(rows, columns, size)
        luma = units[..., :-2].reshape(rows, columns, down, across).swapaxes(1, 2).reshape(rows * down, -1)
        chroma = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
        strips.append(np.dstack([luma, chroma])[: page.rowsperstrip])
    pixels = np.concatenate(strips)[: page.imagelength, : page.imagewidth]
    if pixels.shape[:2] != (page.imagelength, page.imagewidth):
        raise ValueError("its strips hold fewer pixels than its header claims: copy it again")
    size = (page.imagewidth, page.imagelength)
    return np.asarray(Image.frombytes("YCbCr", size, np.ascontiguousarray(pixels).tobytes()).convert("RGB"))


def _by_pillow(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """Red, green and blue `[H, W, 3]` of a page by Pillow."""
    if len(page.treeindex) != 1:
        raise ValueError("its colours are YCbCr in a page within a page: save it as grey or RGB")
    with open_by_pillow(path) as image:  # the size is checked
        image.seek(page.treeindex[0])
        return np.asarray(image.convert("RGB"))
