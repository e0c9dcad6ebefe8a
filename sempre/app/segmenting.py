"""Segment a dropped micrograph as the command line does, and keep what was found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import streamlit as st

from sempre.app.kept import Upload
from sempre.deploy.batch import scale_bar_reader
from sempre.deploy.bundle import DenseBundle
from sempre.deploy.micrograph_results import in_frame
from sempre.deploy.released import find_bundle
from sempre.deploy.scale import find_pixel_size, scale_warning, square_warning
from sempre.deploy.segmenter import Segmentation, Segmenter
from sempre.images import Micrograph, PixelSize, crop_information_bar, is_blank, read_micrograph

MOST_KEPT = 16  # segmentations of a tab


@dataclass(frozen=True)
class Settings:
    """What makes a difference to what is found: the options of `sempre segment`."""

    model: str
    pixel_size_nm: PixelSize | None = None
    crop: bool = False
    scale: float | None = None


@dataclass(frozen=True)
class Found:
    """A micrograph `[H, W]`, its segmentation in the same frame, and how many px of it were looked at."""

    pixels: np.ndarray
    segmentation: Segmentation
    size_source: str
    field: int
    warning: str = ""

    @property
    def pixel_size(self) -> PixelSize | None:
        return self.segmentation.pixel_size


@st.cache_resource(max_entries=4, show_spinner="Opening the model")
def _opened(folder: Path, scale: float | None, changed: tuple[float, ...]) -> Segmenter:
    return Segmenter(folder, scale=scale)


def open_model(model: str, scale: float | None = None) -> Segmenter:
    """A bundle ready to segment, opened once for all tabs until its files change.

    Raises:
        InputError: for one that cannot be used.
    """
    folder = find_bundle(model)
    changed = tuple(sorted(path.stat().st_mtime for path in folder.glob("model.*")))
    return _opened(folder, scale, changed)


@st.cache_resource(show_spinner=False)
def _scale_bar_reader():
    return scale_bar_reader(None, None)


@st.cache_data(max_entries=4, show_spinner="Reading the micrograph", hash_funcs={Upload: lambda file: str(file.path)})
def read(file: Upload) -> Micrograph:
    """The micrograph in a dropped file. Raises: InputError."""
    return read_micrograph(file.path)


def pages_left_out(micrograph: Micrograph) -> str:
    """What is said of a file that holds several pictures; "" where there is one."""
    if micrograph.pages < 2:
        return ""
    others = f"the other {micrograph.pages - 1} are" if micrograph.pages > 2 else "the other is"
    shown = f"Page {micrograph.page} of {micrograph.pages} is shown"
    return f"{shown}, {others} left out: sempre segment --page all takes each."


def segment(
    file: Upload, settings: Settings, progress: Callable[[int, int], None], threshold: float | None = None
) -> Found:
    """Find the particles; what was found of the same file by the same settings is kept in the tab.

    Raises:
        InputError: when it cannot be read or segmented.
    """
    kept = st.session_state.setdefault("found", {})
    key = (file.sha256, settings) if threshold is None else (file.sha256, settings, threshold)
    if key in kept:
        return kept[key]
    micrograph = read(file)
    segmenter = open_model(settings.model, settings.scale)
    pixels = crop_information_bar(micrograph.pixels) if settings.crop else micrograph.pixels
    reader = _scale_bar_reader() if settings.pixel_size_nm is None else None
    size, source = find_pixel_size(micrograph, settings.pixel_size_nm, reader)
    segmentation = segmenter.segment(pixels, size, threshold, progress)
    warnings = [
        square_warning(micrograph, size, settings.pixel_size_nm) or "",
        scale_warning(segmenter.bundle, size.mean if size else None, settings.scale) or "",
    ]
    warnings.append(pages_left_out(micrograph))
    if is_blank(pixels):
        warnings.append("The micrograph shows a single grey value, in which there is nothing to find.")
    if segmentation.overflowing:
        warnings.append(f"{len(segmentation.overflowing)} tiles hold more particles than the model lists.")
    segmentation = replace(segmentation, labels=in_frame(segmentation.labels, micrograph.pixels.shape))
    found = Found(micrograph.pixels, segmentation, source, pixels.size, " ".join(filter(None, warnings)))
    while len(kept) >= MOST_KEPT:
        kept.pop(next(iter(kept)))
    kept[key] = found
    return found


def above(file: Upload, settings: Settings, found: Found, threshold: float) -> Found:
    """What is found by another score threshold: at once of a dense segmenter, whose threshold comes last; a Mask R-CNN
    merges what scores enough, and looks again."""
    bundle = open_model(settings.model, settings.scale).bundle
    if isinstance(bundle, DenseBundle):
        return replace(found, segmentation=found.segmentation.above(threshold))
    if threshold == bundle.score_threshold:
        return found
    with st.spinner("Segmenting with this threshold"):
        return segment(file, settings, lambda done, of: None, threshold)
