"""Segment micrographs with an exported model of any kind, on onnxruntime, without PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sempre.deploy.bundle import DenseBundle, read_bundle
from sempre.deploy.released import find_bundle
from sempre.deploy.scale import check_scale, seen_scales
from sempre.deploy.session import open_session
from sempre.deploy.tiled_networks import Detector, MapSegmenter
from sempre.errors import InputError
from sempre.images import PixelSize, as_pixel_size, field_rows, is_blank, percentile_normalise
from sempre.segmentation.calibration import Calibration, Evidence, diameter_intervals, probabilities
from sempre.segmentation.detections import Box, Instance
from sempre.segmentation.particles import Particle, among_themselves, measure_particles

# Raised whenever the same bundle finds or measures other particles in the same pixels: earlier results are done again.
DECODING_VERSION = 2


@dataclass(frozen=True)
class Segmentation:
    """`labels` int32 `[H, W]`, 0 = background; `particles[k]` has the id k + 1, by falling score.

    `pixel_size_nm` is along x, `pixel_size_y_nm` along y. `overflowing` are boxes (x0, y0, x1, y1, px) in which
    particles may be missing, because there were more than the model lists.
    """

    labels: np.ndarray
    particles: list[Particle]
    pixel_size_nm: float | None = None
    overflowing: list[Box] = field(default_factory=list)
    pixel_size_y_nm: float | None = None

    @property
    def pixel_size(self) -> PixelSize | None:
        """nm per px along x and y; None where it is unknown."""
        if self.pixel_size_nm is None:
            return None
        return as_pixel_size((self.pixel_size_nm, self.pixel_size_y_nm or self.pixel_size_nm))

    def above(self, score: float) -> "Segmentation":
        """The particles that score more. Of a dense segmenter that is what it finds by this threshold, without another
        look; a Mask R-CNN merges only what scores enough."""
        count = int((np.array([particle.score for particle in self.particles], np.float32) > score).sum())
        labels = np.where(self.labels <= count, self.labels, 0).astype(np.int32)
        particles = self.particles[:count]
        if 0 < count < len(self.particles):
            particles = among_themselves(particles, labels, self.pixel_size)
        return replace(self, labels=labels, particles=particles)


class Segmenter:
    """A bundle ready to segment.

    Args:
        model: a bundle's folder, or the name of a model that comes with sempre (`sempre models` lists them).
        threads: for the network; None lets onnxruntime take every core.
        tile: side of the tiles of large micrographs, px of what the network sees; None is the bundle's. Smaller ones
            take less memory.
        flips: average a dense segmenter's maps over the micrograph's mirror images, for some three times the time.
        scale: how many times its size the network sees a micrograph at; None follows `sempre.deploy.scale`.
        provider, device: where the network runs, see `sempre.deploy.session`.

    Raises:
        InputError: for a bundle that cannot be used, for threads, a tile, a scale, a provider or a device that cannot
            be, for flips of a Mask R-CNN.
    """

    def __init__(
        self,
        model: str | Path,
        threads: int | None = None,
        tile: int | None = None,
        flips: bool = False,
        scale: float | None = None,
        provider: str = "cpu",
        device: str | None = None,
    ):
        if tile is not None and tile < 64:
            raise InputError(f"a tile of {tile} px is too small to see particles in: give 64 or more")
        check_scale(scale)
        self.bundle, self.scale = read_bundle(find_bundle(model)), scale
        if flips and self.bundle.kind != "dense":
            raise InputError(f"{model} is a {self.bundle.kind}, which has no maps to average: leave out flips")
        session = open_session(self.bundle.model, threads, provider, device)
        self.tile, self.flips = tile or self.bundle.tile, flips
        overlap = min(self.bundle.overlap, self.tile // 2)
        if isinstance(self.bundle, DenseBundle):
            self.model = MapSegmenter(self.bundle, session, self.tile, overlap, flips)
        else:
            self.model = Detector(self.bundle, session, self.tile, overlap)

    def segment(
        self,
        pixels: np.ndarray,
        pixel_size_nm: float | tuple[float, float] | None = None,
        score_threshold: float | None = None,
        progress: Callable[[int, int], None] = lambda looks, of: None,
    ) -> Segmentation:
        """Find and measure the particles of a micrograph `[H, W]` of any real type.

        Args:
            pixels: raw grey values; they are normalised here, over the whole micrograph.
            pixel_size_nm: nm per px, or a pair of them where pixels are not square: x (their width), then y (their
                height); a model of one magnification sees the micrograph at its own.
            score_threshold: particles score more; None is the bundle's.
            progress: called after each look of the network at a tile with the looks so far and those expected.

        Raises:
            InputError: for pixels that are not a grey image, a pixel size that is not above 0, a threshold outside
                [0, 1], and when the network fails.
        """
        size = as_pixel_size(pixel_size_nm)
        found = self._find(pixels, score_threshold, size.mean if size else None, progress, trusted=True)
        labels, scores, overflowing, evidence = found
        particles = measure_particles(labels, scores, size, field_rows(pixels), pixels) if len(scores) else []
        if evidence is not None:
            particles = self._trust(particles, evidence)
        x, y = size or (None, None)
        return Segmentation(labels, particles, x, overflowing, y)

    def find(
        self,
        pixels: np.ndarray,
        score_threshold: float | None = None,
        pixel_size_nm: float | None = None,
        progress: Callable[[int, int], None] = lambda looks, of: None,
    ) -> tuple[np.ndarray, np.ndarray, list[Box]]:
        """As `segment`, but nothing is measured: labels int32 `[H, W]`, scores `[N]`, boxes with particles missing."""
        labels, scores, overflowing, _ = self._find(pixels, score_threshold, pixel_size_nm, progress, trusted=False)
        return labels, scores, overflowing

    def find_with_evidence(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, Evidence]:
        """The labels int32 `[H, W]` of a micrograph, the scores `[N]` and what a dense segmenter's maps say of each
        particle, to calibrate it by.

        Raises:
            InputError: for a model without maps, and as `segment`.
        """
        image = self._normalise(pixels)
        if not isinstance(self.model, MapSegmenter):
            raise InputError(f"a {self.bundle.kind} has no maps to calibrate: give the bundle of a dense segmenter")
        if image is None:
            return np.zeros(pixels.shape, np.int32), np.zeros(0, np.float32), Evidence(np.zeros(0), np.zeros(0))
        labels, scores, evidence = self.model.segment_with_evidence(image, None, seen_scales(self.bundle, None, None))
        assert evidence is not None
        return labels, scores, evidence

    def _find(
        self,
        pixels: np.ndarray,
        score_threshold: float | None,
        pixel_size_nm: float | None,
        progress: Callable[[int, int], None],
        trusted: bool,
    ) -> tuple[np.ndarray, np.ndarray, list[Box], Evidence | None]:
        """What `find` gives, and the evidence if it is `trusted`, that is wanted, and the bundle is calibrated."""
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise InputError(f"the score threshold {score_threshold} lies outside [0, 1]")
        image = self._normalise(pixels)
        if image is None:
            return np.zeros(pixels.shape, np.int32), np.zeros(0, np.float32), [], None
        scales = seen_scales(self.bundle, pixel_size_nm, self.scale)
        expected, looks = self.model.count_tiles(image.shape, scales), 0

        def looked() -> None:
            nonlocal looks
            looks += 1
            progress(looks, max(expected, looks))

        if isinstance(self.model, MapSegmenter) and trusted and self.calibration is not None:
            labels, scores, evidence = self.model.segment_with_evidence(image, score_threshold, scales, looked)
            return labels, scores, [], evidence
        return *self.model.segment(image, score_threshold, scales, looked), None

    @property
    def calibration(self) -> Calibration | None:
        """The bundle's, if it has one."""
        return self.bundle.calibration if isinstance(self.bundle, DenseBundle) else None

    def _trust(self, particles: list[Particle], evidence: Evidence) -> list[Particle]:
        """Particles with their probabilities and the intervals of their diameters."""
        assert self.calibration is not None
        areas, scores = np.array([(particle.area, particle.score) for particle in particles]).reshape(-1, 2).T
        real = probabilities(self.calibration, scores, areas, evidence)
        low, high = diameter_intervals(self.calibration, areas, evidence)
        return [
            replace(
                particle,
                probability=float(real[index]),
                equivalent_diameter_low=float(low[index]),
                equivalent_diameter_high=float(high[index]),
            )
            for index, particle in enumerate(particles)
        ]

    def find_and_list(
        self, pixels: np.ndarray, pixel_size_nm: float | None = None
    ) -> tuple[np.ndarray, list[Instance] | None]:
        """The labels that `find` gives, int32 `[H, W]`, and all of a Mask R-CNN's detections, for average precision.

        They may overlap, and those below the score threshold are among them. A dense segmenter has none to list: None.
        """
        if isinstance(self.model, MapSegmenter):
            return self.find(pixels, pixel_size_nm=pixel_size_nm)[0], None
        image = self._normalise(pixels)
        if image is None:
            return np.zeros(pixels.shape, np.int32), []
        return self.model.segment_and_list(image, seen_scales(self.bundle, pixel_size_nm, self.scale))

    def _normalise(self, pixels: np.ndarray) -> np.ndarray | None:
        """What the network sees of a micrograph `[H, W]`, float32; None of a blank one."""
        if pixels.ndim != 2 or pixels.size == 0:
            raise InputError(f"pixels of shape {pixels.shape} are no grey micrograph: [height, width] is needed")
        if is_blank(pixels):
            return None
        if pixels.dtype == bool:  # which has no percentiles
            pixels = pixels.astype(np.uint8)
        image = percentile_normalise(pixels, *self.bundle.percentiles)
        image *= self.bundle.high - self.bundle.low
        image += self.bundle.low
        return image
