"""A graph in 8-bit integers: a fraction of the time where the CPU multiplies them, and a quarter of the file."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class Images(CalibrationDataReader):
    """Feeds the calibration one image after the other."""

    def __init__(self, images: Iterable[np.ndarray]):
        self.images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"image": image[None, None]}


def quantise(graph: Path, images: Iterable[np.ndarray]) -> None:
    """Let the ONNX file `graph`, whose input is `image`, compute its convolutions in 8-bit integers.

    One scale a channel for weights, one a tensor for activations, as in Jacob et al., "Quantization and training of
    neural networks for efficient integer-arithmetic-only inference", CVPR 2018. The first and the last convolution stay
    in floats: one sees grey values, the other gives the maps, and neither takes much time.

    Args:
        images: float32 `[h, w]` that show the ranges of the activations, as the graph takes them.
    """
    convolutions = [
        node.name for node in onnx.load(graph, load_external_data=False).graph.node if node.op_type == "Conv"
    ]
    with _without_advice():
        quantize_static(
            graph,
            graph,
            Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # Sums of two products of 8 bits overflow on CPUs without VNNI instructions; those with 7 bits do not.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
        )


@contextmanager
def _without_advice() -> Iterator[None]:
    """onnxruntime advises on the root logger to fold batch normalisation first, which has been done."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)
