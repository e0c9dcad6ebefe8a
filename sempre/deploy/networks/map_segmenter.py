"""A bundle of the kind `dense`: maps of the whole micrograph, and one watershed over them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnxruntime

from sempre.deploy.detections.instance import Box
from sempre.deploy.networks.bundle import DenseBundle
from sempre.deploy.networks.decode import renumber
from sempre.deploy.networks.dense import DenseSettings, count_tiles, segment_dense
from sempre.errors import InputError


class MapSegmenter:
    """The dense segmenter on a session of onnxruntime; `tile` and `overlap` in px of what the network sees."""

    def __init__(
        self, bundle: DenseBundle, session: onnxruntime.InferenceSession, tile: int, overlap: int, flips: bool
    ):
        self.session = session
        self.settings = DenseSettings(bundle.decoding, bundle.scales, tile, overlap, flips)

    def count_tiles(self, shape: tuple[int, int], scales: tuple[float, ...]) -> int:
        """How often the network looks at a micrograph `[H, W]`, at most."""
        return count_tiles(shape, replace(self.settings, scales=scales))

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

        def network(view: np.ndarray) -> np.ndarray:
            maps = self._maps(view)
            looked()
            return maps

        labels, scores = segment_dense(image, network, replace(self.settings, scales=scales))
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > (score_threshold or 0.0)]
        numbers = np.zeros(len(scores) + 1, np.int32)
        numbers[order + 1] = np.arange(1, len(order) + 1)
        renumber(labels, numbers)
        return labels, scores[order], []

    def _maps(self, view: np.ndarray) -> np.ndarray:
        try:
            return self.session.run(["maps"], {"image": view[None, None]})[0][0]
        except Exception as error:  # out of memory among them
            size = f"{view.shape[1]}x{view.shape[0]} px"
            raise InputError(f"the model failed on {size}: {error}; a smaller --tile takes less memory") from error
