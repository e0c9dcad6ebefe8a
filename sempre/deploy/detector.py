"""A bundle of the kind `mask_rcnn`: boxes, scores and small masks of each tile, put together and painted."""

import numpy as np
import onnxruntime

from sempre.deploy.bundle import MaskRCNNBundle
from sempre.deploy.instance import Box
from sempre.deploy.painting import paint_particles
from sempre.deploy.tiling import Detections, detect_in_tiles
from sempre.errors import InputError
from sempre.images.resize import boxes_between, resize

WHOLE = 2.5  # a micrograph of up to this many tiles' area goes through in one piece
LEAST_TILE = 64  # px of what the network sees; smaller ones show too little around a particle
# A tile overflows where this share of the particles that it can list is found, or of the proposals for them, several of
# which show the same one: with 300 proposals, packed fields of 380 particles gave 70 to 120, and more when cut.
FULL_DETECTIONS, FULL_PROPOSALS = 0.9, 0.15
COUNTED_SCORE = 0.3  # detections from this score on fill a tile, even if the threshold is higher


class Detector:
    """Mask R-CNN on a session of onnxruntime; `tile` and `overlap` in px of what the network sees."""

    def __init__(self, bundle: MaskRCNNBundle, session: onnxruntime.InferenceSession, tile: int, overlap: int):
        self.bundle, self.session = bundle, session
        # In px of the micrograph, whatever scale the network sees it at.
        self.tile, self.overlap = round(tile / bundle.scale), round(overlap / bundle.scale)
        self.full = min(FULL_DETECTIONS * bundle.detections_per_tile, FULL_PROPOSALS * bundle.proposals_per_tile)

    def segment(self, image: np.ndarray, score_threshold: float | None) -> tuple[np.ndarray, np.ndarray, list[Box]]:
        """The particles of a normalised micrograph `[H, W]`.

        Returns:
            Labels int32 `[H, W]` with ids 1 to K by falling score, the scores `[K]`, and the boxes (x0, y0, x1, y1, px)
            of the tiles that hold more particles than the network lists and are too small to be cut.

        Raises:
            InputError: when the network fails.
        """
        threshold = self.bundle.score_threshold if score_threshold is None else score_threshold
        instances, overflowing = detect_in_tiles(
            image,
            lambda view, reduction: self._detect(view, reduction, threshold),
            max(image.shape) if image.size <= WHOLE * self.tile**2 else self.tile,
            self.overlap,
            self.bundle.mask_threshold,
            round(LEAST_TILE / self.bundle.scale),
        )
        scores = np.array([instance.score for instance in instances])
        masks = [(instance.y, instance.x, instance.mask) for instance in instances]
        labels, kept = paint_particles(masks, scores, image.shape)
        return labels, scores[kept], overflowing

    def _detect(self, view: np.ndarray, reduction: int, threshold: float) -> Detections:
        seen = resize(np.asarray(view, dtype=np.float32), self.bundle.scale / reduction)
        inputs = {
            "image": np.ascontiguousarray(seen)[None, None],
            "score_threshold": np.array([min(threshold, COUNTED_SCORE)], dtype=np.float32),
        }
        try:
            boxes, scores, masks = self.session.run(["boxes", "scores", "masks"], inputs)
        except Exception as error:  # out of memory among them
            size = f"{view.shape[1]}x{view.shape[0]} px"
            raise InputError(f"the model failed on {size}: {error}; smaller tiles take less memory") from error
        kept = scores > threshold
        boxes = boxes_between(boxes[kept], seen.shape, view.shape)
        return Detections(boxes, scores[kept], masks[kept], overflows=len(scores) >= self.full)
