"""Segment micrographs with an exported model of any kind, on onnxruntime, without PyTorch."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnxruntime

from sempre.deploy.bundle import read_bundle
from sempre.deploy.detector import Detector
from sempre.deploy.instance import Box
from sempre.deploy.map_segmenter import MapSegmenter
from sempre.deploy.particles import Particle, measure_particles
from sempre.errors import InputError
from sempre.images import percentile_normalise

MODELS = {"dense": MapSegmenter, "mask_rcnn": Detector}  # what runs a bundle of each kind


@dataclass(frozen=True)
class Segmentation:
    """`labels` int32 `[H, W]`, 0 = background; `particles[k]` has the id k + 1, by falling score.

    `overflowing` are boxes (x0, y0, x1, y1, px) in which particles may be missing, because there were more than the
    model lists.
    """

    labels: np.ndarray
    particles: list[Particle]
    pixel_size_nm: float | None = None
    overflowing: list[Box] = field(default_factory=list)


class Segmenter:
    """A bundle ready to segment.

    Args:
        bundle_folder: see `sempre.deploy.bundle`.
        threads: for the network; None lets onnxruntime take every core.
        tile: side of the tiles of large micrographs, px of what the network sees; None is the bundle's. Smaller ones
            take less memory.
        flips: average a dense segmenter's maps over the micrograph's mirror images, for some three times the time.

    Raises:
        InputError: for a bundle that cannot be used, for threads or a tile that cannot be, for flips of a Mask R-CNN.
    """

    def __init__(
        self, bundle_folder: str | Path, threads: int | None = None, tile: int | None = None, flips: bool = False
    ):
        if threads is not None and threads < 1:
            raise InputError(f"{threads} threads cannot compute: give 1 or more")
        if tile is not None and tile < 64:
            raise InputError(f"a tile of {tile} px is too small to see particles in: give 64 or more")
        self.bundle = read_bundle(bundle_folder)
        if flips and self.bundle.kind != "dense":
            raise InputError(f"{bundle_folder} is a {self.bundle.kind}, which has no maps to average: leave out flips")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only
        try:
            session = onnxruntime.InferenceSession(self.bundle.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            raise InputError(f"{self.bundle.model} cannot be loaded: {error}; a newer onnxruntime may help") from error
        tile = tile or self.bundle.tile
        self.model = MODELS[self.bundle.kind](self.bundle, session, tile, min(self.bundle.overlap, tile // 2))
        if flips:
            self.model.settings = replace(self.model.settings, flips=True)

    def segment(
        self, pixels: np.ndarray, pixel_size_nm: float | None = None, score_threshold: float | None = None
    ) -> Segmentation:
        """Find and measure the particles of a micrograph `[H, W]` of any real type.

        Args:
            pixels: raw grey values; they are normalised here, over the whole micrograph.
            pixel_size_nm: nm per px, passed on.
            score_threshold: particles score more; None is the bundle's.

        Raises:
            InputError: for pixels that are not a grey image, a threshold outside [0, 1], and when the network fails.
        """
        labels, scores, overflowing = self.find(pixels, score_threshold)
        return Segmentation(labels, measure_particles(labels, scores), pixel_size_nm, overflowing)

    def find(
        self, pixels: np.ndarray, score_threshold: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[Box]]:
        """As `segment`, but nothing is measured: labels int32 `[H, W]`, scores `[N]`, boxes with particles missing."""
        if pixels.ndim != 2 or pixels.size == 0:
            raise InputError(f"pixels of shape {pixels.shape} are no grey micrograph: [height, width] is needed")
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise InputError(f"the score threshold {score_threshold} lies outside [0, 1]")
        if pixels.dtype == bool:  # which has no percentiles
            pixels = pixels.astype(np.uint8)
        image = percentile_normalise(pixels, *self.bundle.percentiles)
        image *= self.bundle.high - self.bundle.low
        image += self.bundle.low
        return self.model.segment(image, score_threshold)
