"""A dense segmenter as a bundle, once ONNX Runtime has been seen to give what PyTorch gives."""

from pathlib import Path

import numpy as np
import onnxruntime

from sempre.deploy.dense import DenseSettings, predict_maps
from sempre.errors import InputError
from sempre.models.bundle_writer import write_bundle
from sempre.models.dense import DenseSegmenter, as_network
from sempre.models.dense_graph import export_dense

TOLERANCE = 0.02  # of probability and depth; the graph's weights are in half precision


def write_dense_bundle(
    out: str | Path, model: DenseSegmenter, settings: DenseSettings, details: dict, pixels: np.ndarray
) -> float:
    """Write the bundle `out`.

    Args:
        settings: how maps are made and read.
        details: of the model, as `save_dense` writes them.
        pixels: a normalised micrograph `[H, W]`, that the graph is tried on.

    Returns:
        The largest difference between the maps of ONNX Runtime and PyTorch.

    Raises:
        InputError: when they differ by more than `TOLERANCE`; then nothing is written.
    """
    differences = []

    def export(path: Path) -> None:
        export_dense(model, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found, expected = (
            predict_maps(pixels, network, settings)
            for network in (lambda image: session.run(["maps"], {"image": image[None, None]})[0][0], as_network(model))
        )
        differences.append(float(np.abs(found - expected).max()))
        if differences[0] > TOLERANCE:
            raise InputError(
                f"the export is not faithful: ONNX Runtime's maps differ from PyTorch's by {differences[0]:.3f}; "
                "nothing was written: try other versions of torch and onnxruntime"
            )

    write_bundle(
        out,
        export,
        {
            "kind": "dense",
            "input": {"percentiles": details["percentiles"], "low": 0, "high": 1, "scale": 1.0},
            "tile": settings.tile,
            "overlap": settings.overlap,
            "scales": settings.scales,
            "decoding": vars(settings.decoding),
            "class_names": details["class_names"],
            "pixel_size_nm": details["pixel_size_nm"],
        },
    )
    return differences[0]
