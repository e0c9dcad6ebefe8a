"""A dense segmenter as a bundle, once ONNX Runtime has been seen to give what PyTorch gives."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from sempre.deploy.networks.dense import MULTIPLE, DenseSettings, predict_maps
from sempre.errors import InputError
from sempre.images.resize import resize
from sempre.models.export.bundle_writer import write_bundle
from sempre.models.export.dense_graph import export_dense
from sempre.models.segmenters.dense import DenseSegmenter, as_network

TOLERANCE = 0.02  # of probability and depth; the graph's weights are in half precision
CALIBRATED_SCALES = (0.5, 1.0, 0.25)  # scales at which calibration sees one micrograph after the other
QUANTISED_TOLERANCE = 0.1  # on the mean: single pixels of a graph in 8-bit integers differ by more


def write_dense_bundle(
    out: str | Path,
    model: DenseSegmenter,
    settings: DenseSettings,
    details: dict,
    pixels: np.ndarray,
    calibration: Sequence[np.ndarray] = (),
) -> float:
    """Write the bundle `out`.

    Args:
        settings: how maps are made and read.
        details: of the model, as `save_dense` writes them.
        pixels: a normalised micrograph `[H, W]`, that the graph is tried on.
        calibration: normalised micrographs `[H, W]`; where there are any, the graph computes in 8-bit integers, whose
            ranges are those that it shows on them.

    Returns:
        The largest difference between the maps of ONNX Runtime and PyTorch; the mean one in 8-bit integers.

    Raises:
        InputError: when they differ by more than is to be expected; then nothing is written.
    """
    differences = []

    def export(path: Path) -> None:
        export_dense(model, path, [view_of(image, number) for number, image in enumerate(calibration)])
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found, expected = (
            predict_maps(pixels, network, settings)
            for network in (lambda image: session.run(["maps"], {"image": image[None, None]})[0][0], as_network(model))
        )
        apart = np.abs(found - expected)
        difference, tolerance = (apart.mean(), QUANTISED_TOLERANCE) if len(calibration) else (apart.max(), TOLERANCE)
        differences.append(float(difference))
        if difference > tolerance:
            way_out = "calibrate on micrographs like it" if len(calibration) else "try other versions of onnxruntime"
            raise InputError(
                f"the export is not faithful: ONNX Runtime's maps differ from PyTorch's by {difference:.3f}; "
                f"nothing was written: {way_out}"
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


def view_of(pixels: np.ndarray, number: int) -> np.ndarray:
    """A micrograph `[H, W]` as a segmenter sees it: at a scale that `number` chooses, its sides multiples of 32 px."""
    image = resize(pixels, CALIBRATED_SCALES[number % len(CALIBRATED_SCALES)])
    height, width = (max(side // MULTIPLE, 1) * MULTIPLE for side in image.shape)
    missing = [(0, max(want - side, 0)) for want, side in zip((height, width), image.shape, strict=True)]
    return np.ascontiguousarray(np.pad(image, missing, mode="symmetric")[:height, :width])
