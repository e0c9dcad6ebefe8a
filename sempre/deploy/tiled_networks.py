"""A bundle's network over a whole micrograph, tile by tile: a detector, or what gives maps."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import onnxruntime

from sempre.deploy.bundle import DenseBundle, MaskRCNNBundle
from sempre.errors import InputError
from sempre.images.resize import boxes_between, resize
from sempre.segmentation.calibration import Evidence, look_closer
from sempre.segmentation.decode import renumber
from sempre.segmentation.detections import Box, Instance, View, merge_views
from sempre.segmentation.maps import DenseSettings, count_looks, instances, supported_maps
from sempre.segmentation.tiling import Detections, count_tiles, look_in_tiles, overflowing, paint_particles

WHOLE = 2.5  # a micrograph of up to this many tiles' area goes through in one piece
LEAST_TILE = 64  # px of what the network sees; smaller ones show too little around a particle
# A tile overflows where this share of the particles that it can list is found, or of the proposals for them, several of
# which show the same one: with 300 proposals, packed fields of 380 particles gave 70 to 120, and more when cut.
FULL_DETECTIONS, FULL_PROPOSALS = 0.9, 0.15
COUNTED_SCORE = 0.3  # detections from this score on fill a tile, even if the threshold is higher
LISTED_SCORE = 0.05  # torchvision lists no detection below, in training and in the graph


class Session(Protocol):
    """What runs the network: a session of onnxruntime, or a network in training that answers as one."""

    def run(self, names: Sequence[str], inputs: dict[str, Any]) -> Sequence[Any]: ...


class Detector:
    """Mask R-CNN on a session; `tile` and `overlap` in px of what the network sees."""

    def __init__(self, bundle: MaskRCNNBundle, session: Session, tile: int, overlap: int):
        self.bundle, self.session, self.tile, self.overlap = bundle, session, tile, overlap
        self.full = min(FULL_DETECTIONS * bundle.detections_per_tile, FULL_PROPOSALS * bundle.proposals_per_tile)

    def count_tiles(self, shape: tuple[int, int], scales: tuple[float, ...]) -> int:
        """How often the network looks at a micrograph `[H, W]`; more often if tiles overflow."""
        return count_tiles(shape, *self._tiling(shape, scales[0]))

    def segment(
        self,
        image: np.ndarray,
        score_threshold: float | None,
        scales: tuple[float, ...],
        looked: Callable[[], None] = lambda: None,
    ) -> tuple[np.ndarray, np.ndarray, list[Box]]:
        """The particles of a normalised micrograph `[H, W]`.

        Args:
            scales: the one at which it is seen.
            looked: called after each look of the network.

        Returns:
            Labels int32 `[H, W]` with ids 1 to K by falling score, the scores `[K]`, and the boxes (x0, y0, x1, y1, px)
            of the tiles that hold more particles than the network lists and are too small to be cut.

        Raises:
            InputError: when the network fails.
        """
        (scale,) = scales
        threshold = self.bundle.score_threshold if score_threshold is None else score_threshold
        views = self._look(image, scale, threshold, threshold, looked)
        labels, scores = _painted(merge_views(views, image.shape), image.shape)
        return labels, scores, overflowing(views)

    def segment_and_list(self, image: np.ndarray, scales: tuple[float, ...]) -> tuple[np.ndarray, list[Instance]]:
        """The labels that `segment` gives at the bundle's threshold, and all detections, also those that score less.

        The network looks once for both.
        """
        (scale,) = scales
        threshold = self.bundle.score_threshold
        lowest = min(threshold, LISTED_SCORE)
        views = self._look(image, scale, lowest, threshold)
        listed = merge_views(views, image.shape)
        if lowest == threshold:
            return _painted(listed, image.shape)[0], listed
        return _labels_above(views, threshold, image.shape), listed

    def segment_at(self, image: np.ndarray, scales: tuple[float, ...], thresholds: Sequence[float]) -> list[np.ndarray]:
        """The labels of a normalised micrograph `[H, W]` at each score threshold, each int32 `[H, W]`.

        The network looks once for all. Which tiles are cut is decided at the bundle's own threshold.
        """
        (scale,) = scales
        views = self._look(image, scale, min(thresholds), self.bundle.score_threshold)
        return [_labels_above(views, threshold, image.shape) for threshold in thresholds]

    def _look(
        self,
        image: np.ndarray,
        scale: float,
        lowest: float,
        threshold: float,
        looked: Callable[[], None] = lambda: None,
    ) -> list[View]:
        """All views of a micrograph with the detections that score more than `lowest`.

        Which tiles are cut depends on the detections that a search at `threshold` would see.
        """

        def detect(view: np.ndarray, reduction: int) -> Detections:
            detections = self._detect(view, scale / reduction, lowest, min(threshold, COUNTED_SCORE))
            looked()
            return detections

        tile, overlap, least_tile = self._tiling(image.shape, scale)
        return look_in_tiles(image, detect, tile, overlap, self.bundle.mask_threshold, least_tile)

    def _tiling(self, shape: tuple[int, int], scale: float) -> tuple[int, int, int]:
        """Tile, overlap and least tile in px of a micrograph `[H, W]` that is seen at `scale`."""
        tile, overlap, least_tile = (round(side / scale) for side in (self.tile, self.overlap, LEAST_TILE))
        return max(shape) if shape[0] * shape[1] <= WHOLE * tile**2 else tile, overlap, least_tile

    def _detect(self, view: np.ndarray, scale: float, lowest: float, counted: float) -> Detections:
        seen = resize(np.asarray(view, dtype=np.float32), scale)
        inputs = {
            "image": np.ascontiguousarray(seen)[None, None],
            "score_threshold": np.array([min(lowest, counted)], dtype=np.float32),
        }
        try:
            boxes, scores, masks = self.session.run(["boxes", "scores", "masks"], inputs)
        except Exception as error:  # out of memory among them
            size = f"{view.shape[1]}x{view.shape[0]} px"
            raise InputError(f"the model failed on {size}: {error}; a smaller --tile takes less memory") from error
        kept = scores > lowest
        boxes = boxes_between(boxes[kept], seen.shape, view.shape)
        overflows = bool(np.count_nonzero(scores > np.float32(counted)) >= self.full)
        return Detections(boxes, scores[kept], masks[kept], overflows)


def _labels_above(views: list[View], threshold: float, shape: tuple[int, int]) -> np.ndarray:
    """The label image of `shape` of the detections in views that score more than the threshold."""
    sure = [
        replace(view, instances=[instance for instance in view.instances if instance.score > threshold])
        for view in views
    ]
    return _painted(merge_views(sure, shape), shape)[0]


def _painted(instances: list[Instance], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The label image of `shape` and the scores of the instances that are in it."""
    scores = np.array([instance.score for instance in instances])
    masks = [(instance.y, instance.x, instance.mask) for instance in instances]
    labels, kept = paint_particles(masks, scores, shape)
    return labels, scores[kept]


class MapSegmenter:
    """The dense segmenter on a session of onnxruntime; `tile` and `overlap` in px of what the network sees."""

    def __init__(
        self, bundle: DenseBundle, session: onnxruntime.InferenceSession, tile: int, overlap: int, flips: bool
    ):
        self.session = session
        self.settings = DenseSettings(bundle.decoding, bundle.scales, tile, overlap, flips)

    def count_tiles(self, shape: tuple[int, int], scales: tuple[float, ...]) -> int:
        """How often the network looks at a micrograph `[H, W]`, at most."""
        return count_looks(shape, replace(self.settings, scales=scales))

    def segment(
        self,
        image: np.ndarray,
        score_threshold: float | None,
        scales: tuple[float, ...],
        looked: Callable[[], None] = lambda: None,
    ) -> tuple[np.ndarray, np.ndarray, list[Box]]:
        """The particles of a normalised micrograph `[H, W]`.

        Args:
            scales: at which it is seen; the one that supports its particles best counts.
            looked: called after each look of the network.

        Returns:
            Labels int32 `[H, W]` with ids 1 to K by falling score, the scores `[K]`, and no box: it lists what it sees.

        Raises:
            InputError: when the network fails.
        """
        labels, scores, _ = self.segment_with_evidence(image, score_threshold, scales, looked, wanted=False)
        return labels, scores, []

    def segment_with_evidence(
        self,
        image: np.ndarray,
        score_threshold: float | None,
        scales: tuple[float, ...],
        looked: Callable[[], None] = lambda: None,
        wanted: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, Evidence | None]:
        """As `segment`, with the labels and the scores what the maps say of each particle, if that is `wanted`."""

        def network(view: np.ndarray) -> np.ndarray:
            maps = self._maps(view)
            looked()
            return maps

        maps = supported_maps(image, network, replace(self.settings, scales=scales))
        labels, scores = instances(maps, image.shape, self.settings.decoding)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > (score_threshold or 0.0)]
        numbers = np.zeros(len(scores) + 1, np.int32)
        numbers[order + 1] = np.arange(1, len(order) + 1)
        renumber(labels, numbers)
        evidence = look_closer(labels, maps, len(order), self.settings.decoding) if wanted else None
        return labels, scores[order], evidence

    def _maps(self, view: np.ndarray) -> np.ndarray:
        try:
            return self.session.run(["maps"], {"image": view[None, None]})[0][0]
        except Exception as error:  # out of memory among them
            size = f"{view.shape[1]}x{view.shape[0]} px"
            raise InputError(f"the model failed on {size}: {error}; a smaller --tile takes less memory") from error
