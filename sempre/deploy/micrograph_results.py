"""Segment one micrograph of a batch and write its results."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from sempre import __version__
from sempre.deploy.formats import USUAL, result_paths
from sempre.deploy.inputs import Source
from sempre.deploy.overlay import write_overlay
from sempre.deploy.rois import write_rois
from sempre.deploy.sample_statistics import instrument
from sempre.deploy.scale import find_pixel_size, scale_warning, square_warning
from sempre.deploy.segmenter import Segmentation, Segmenter
from sempre.deploy.summary import summarise
from sempre.errors import InputError, one_line
from sempre.files import file_sha256
from sempre.images import crop_information_bar, field_rows, is_blank, read_micrograph, write_label_png, write_labels
from sempre.images.scale_bar_text import Reader
from sempre.segmentation.particles import write_csv


def write_results(
    base: Path, formats: tuple[str, ...], pixels: np.ndarray, segmentation: Segmentation, full_size: bool = False
) -> None:
    """Write a micrograph's results, each whole or absent, into the folder of `base`, which is made.

    Args:
        base: the path that their names begin with.
        pixels: the micrograph, `[H, W]` as the segmentation's labels.
        full_size: the overlay of a very large micrograph has its size.

    Raises:
        InputError: for a label image that a format cannot hold.
        OSError: for a file that cannot be written.
    """
    base.parent.mkdir(parents=True, exist_ok=True)
    labels, pixel_size_nm = segmentation.labels, segmentation.pixel_size_nm  # along x, as a scale bar lies
    for name, path in zip(formats, result_paths(base, formats), strict=True):
        match name:
            case "tif":
                write_labels(path, labels)
            case "png":
                write_label_png(path, labels)
            case "csv":
                write_csv(path, segmentation.particles, segmentation.pixel_size)
            case "overlay":
                write_overlay(path, pixels, labels, pixel_size_nm, full_size)
            case "rois":
                write_rois(path, labels)


@dataclass(frozen=True)
class BatchOptions:
    """Where results go, in which formats, and what is done with each; `overwrite` does again what is done."""

    out: Path
    formats: tuple[str, ...] = USUAL
    score_threshold: float | None = None
    pixel_size_nm: float | tuple[float, float] | None = None  # or a pair, x and y
    crop_information_bar: bool = False
    overwrite: bool = False
    pages: int | Literal["all"] | None = None  # of files that hold several: one, counted from 1, or each
    full_size: bool = False  # of overlays of very large micrographs
    shard: tuple[int, int] | None = None  # (k, n): the k-th of n shares of the micrographs, counted from 1
    report: bool = False  # write report.pdf and report.xlsx beside report.html


def segment_or_fail(
    source: Source, base: Path, segmenter: Segmenter, options: BatchOptions, scale_bars: Reader | None
) -> dict[str, str]:
    """What `segment_micrograph` returns, or, whatever goes wrong, the column `error` alone."""
    try:
        return segment_micrograph(source, base, segmenter, options, scale_bars)
    except Exception as error:  # whatever it is, the other micrographs are none the worse for it
        return {"error": _what_failed(error, source.path)}


def segment_micrograph(
    source: Source, base: Path, segmenter: Segmenter, options: BatchOptions, scale_bars: Reader | None = None
) -> dict[str, str]:
    """Segment a micrograph and write its results, whose names begin with `base`; its columns of the summary.

    Raises:
        InputError: when it cannot be read or segmented.
        OSError: when a result cannot be written.
    """
    micrograph = read_micrograph(source.path, page=source.page)
    left_out = 0 if options.pages == "all" else micrograph.pages - 1
    if left_out:
        tell(
            f"{source.path.name}: page {micrograph.page} of {micrograph.pages} is segmented and {left_out}"
            f" {'is' if left_out == 1 else 'are'} left out: --page N takes another, --page all each"
        )
    pixels = crop_information_bar(micrograph.pixels) if options.crop_information_bar else micrograph.pixels
    if is_blank(pixels):
        tell(f"warning: {source.name} shows a single grey value, in which there is nothing to find")
    size, size_source = find_pixel_size(micrograph, options.pixel_size_nm, scale_bars)
    for warning in (
        square_warning(micrograph, size, options.pixel_size_nm),
        scale_warning(segmenter.bundle, size.mean if size else None, segmenter.scale),
    ):
        if warning:
            tell(f"warning: {source.name}: {warning}")
    with tile_bar(source.name) as progress:
        segmentation = segmenter.segment(pixels, size, options.score_threshold, progress)
    if segmentation.overflowing:
        (x0, y0, x1, y1), tiles = segmentation.overflowing[0], len(segmentation.overflowing)
        tell(
            f"warning: {source.name}: {tiles} tiles hold more particles than the model lists, the first at x {x0}"
            f" to {x1}, y {y0} to {y1} px: some may be missing, record at a higher magnification"
        )
    segmentation = replace(segmentation, labels=in_frame(segmentation.labels, micrograph.pixels.shape))
    write_results(base, options.formats, micrograph.pixels, segmentation, options.full_size)
    row = summarise(segmentation, field=pixels.size)
    if row.get("doubt"):
        tell(f"warning: {source.name} {row['doubt']}: look at its overlay")
    top, bottom = field_rows(pixels)
    return row | {
        "page": str(micrograph.page) if micrograph.pages > 1 else "",
        "pages_left_out": str(left_out),
        "pixel_size_source": size_source,
        "field_height_px": str(bottom - top),
        "instrument": instrument(micrograph.metadata),
        "model": name_model(segmenter.bundle.model),
    }


@lru_cache(maxsize=4)
def name_model(model: Path) -> str:
    """The name of a bundle by its network's file, the beginning of that one's SHA-256, and sempre's version."""
    return f"{model.resolve().parent.name} ({file_sha256(model)[:12]}), sempre {__version__}"


def in_frame(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Labels `[h, w]` of a micrograph whose lower rows were cropped, in its own frame `[H, W]`."""
    return np.pad(labels, [(0, whole - side) for whole, side in zip(shape, labels.shape, strict=True)])


@contextmanager
def tile_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of a micrograph's tiles, moved by being called with those done and those expected."""
    with tqdm(desc=name, unit="tile", leave=False, disable=None, mininterval=0, miniters=1) as bar:

        def show(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)

        yield show


def _what_failed(error: Exception, path: Path) -> str:
    if isinstance(error, MemoryError):
        return f"{path} needs more memory than there is: a smaller --tile takes less"
    if isinstance(error, InputError | OSError):
        return one_line(error)
    tell(traceback.format_exc().rstrip())  # a bug of ours, which its report needs
    return f"{path} met a fault of sempre ({type(error).__name__}: {one_line(error)}): please report it"


def tell(*lines: str) -> None:
    """Say on stderr, without breaking a bar of progress."""
    for line in lines:
        tqdm.write(line, file=sys.stderr)
