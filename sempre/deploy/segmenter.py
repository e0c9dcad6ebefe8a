"""Segment micrographs with an exported detector, on onnxruntime, without PyTorch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from sempre.deploy.bundle import read_bundle
from sempre.deploy.painting import paint_particles
from sempre.deploy.particles import Particle, measure_particles
from sempre.deploy.tiling import detect_in_tiles
from sempre.errors import InputError
from sempre.images import percentile_normalise
from sempre.images.resize import boxes_between, resize

WHOLE = 2.5  # a micrograph of up to this many tiles' area goes through in one piece


@dataclass(frozen=True)
class Segmentation:
    """`labels` int32 `[H, W]`, 0 = background; `particles[k]` has the id k + 1, by falling score."""

    labels: np.ndarray
    particles: list[Particle]
    pixel_size_nm: float | None = None


class Segmenter:
    """A bundle ready to segment.

    Args:
        bundle_folder: see `sempre.deploy.bundle`.
        threads: for the network; None lets onnxruntime take every core.
        tile: side of the tiles of large micrographs, px of what the network sees; None is the bundle's. Smaller ones
            take less memory.

    Raises:
        InputError: for a bundle that cannot be used, and for threads or a tile that cannot be.
    """

    def __init__(self, bundle_folder: str | Path, threads: int | None = None, tile: int | None = None):
        if threads is not None and threads < 1:
            raise InputError(f"{threads} threads cannot compute: give 1 or more")
        if tile is not None and tile < 64:
            raise InputError(f"a tile of {tile} px is too small to see particles in: give 64 or more")
        self.bundle = read_bundle(bundle_folder)
        # In px of the micrograph, whatever scale the network sees it at.
        self.tile = round((tile or self.bundle.tile) / self.bundle.scale)
        self.overlap = min(round(self.bundle.overlap / self.bundle.scale), self.tile // 2)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only
        try:
            self.session = onnxruntime.InferenceSession(self.bundle.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            raise InputError(f"{self.bundle.model} cannot be loaded: {error}; a newer onnxruntime may help") from error

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
        if pixels.ndim != 2 or pixels.size == 0:
            raise InputError(f"pixels of shape {pixels.shape} are no grey micrograph: [height, width] is needed")
        threshold = self.bundle.score_threshold if score_threshold is None else score_threshold
        if not 0 <= threshold <= 1:
            raise InputError(f"the score threshold {threshold} lies outside [0, 1]")
        if pixels.dtype == bool:  # which has no percentiles
            pixels = pixels.astype(np.uint8)
        image = percentile_normalise(pixels, *self.bundle.percentiles)
        image *= self.bundle.high - self.bundle.low
        image += self.bundle.low
        fits = pixels.size <= WHOLE * self.tile**2
        instances = detect_in_tiles(
            image,
            lambda view: self._detect(view, threshold),
            max(pixels.shape) if fits else self.tile,
            0 if fits else self.overlap,
            self.bundle.mask_threshold,
        )
        scores = np.array([instance.score for instance in instances])
        masks = [(instance.y, instance.x, instance.mask) for instance in instances]
        labels, kept = paint_particles(masks, scores, pixels.shape)
        return Segmentation(labels, measure_particles(labels, scores[kept]), pixel_size_nm)

    def _detect(self, view: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen = resize(np.asarray(view, dtype=np.float32), self.bundle.scale)
        inputs = {
            "image": np.ascontiguousarray(seen)[None, None],
            "score_threshold": np.array([threshold], dtype=np.float32),
        }
        try:
            boxes, scores, masks = self.session.run(["boxes", "scores", "masks"], inputs)
        except Exception as error:  # out of memory among them
            size = f"{view.shape[1]}x{view.shape[0]} px"
            raise InputError(f"the model failed on {size}: {error}; smaller tiles take less memory") from error
        return boxes_between(boxes, seen.shape, view.shape), scores, masks
