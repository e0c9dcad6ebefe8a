"""Export a fine-tuned model, dense segmenter or Mask R-CNN, to a bundle that segments without PyTorch.

    python tools/export_onnx.py run=runs/my_particles/repeat-0 out=my_bundle

The bundle is a folder of `model.onnx` (maps of one image, see `sempre.export.dense_graph`; or boxes, scores and
small masks, see `sempre.export.detector_graph`) and `model.json` (how to feed it and what it finds). It is
written only if ONNX Runtime finds what PyTorch finds on a micrograph. `calibration=my_set/images` lets a dense
segmenter compute in 8-bit integers: in less than half the time, by ranges that it shows on those micrographs.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from torchvision.models.detection import MaskRCNN

from sempre.config import read_options
from sempre.errors import InputError, run_command
from sempre.export.bundle_writer import write_bundle
from sempre.export.dense_graph import write_dense_bundle
from sempre.export.detector_graph import OUTPUTS, export_detector
from sempre.images import find_micrographs, percentile_normalise, read_micrograph
from sempre.images.resize import resize
from sempre.models.dense import load_dense, read_settings
from sempre.models.mask_rcnn import detect, load_detector
from sempre.models.weight_files import read_details
from sempre.segmentation.detections import paste_masks
from sempre.training.detector_scoring import MASK_THRESHOLD, OVERLAP, TILE, listed_at_once

CALIBRATING = 48  # micrographs that show the ranges of a quantised graph
LEAST_IOU, SCORE_TOLERANCE = 0.99, 1e-3  # what counts as the same instance

Detections = dict[str, np.ndarray]  # boxes [N, 4], scores [N], masks [N, M, M], as `detect` gives them


@dataclass
class Options:
    run: str = "???"  # folder of a finished fine-tuning, runs/<name>/repeat-<n>
    out: str = ""  # folder for the bundle; empty: <run>/bundle
    calibration: str = ""  # typical micrographs for an 8-bit integer model (dense only); empty: floats
    micrograph: str = ""  # compare ONNX Runtime with PyTorch on this; empty: one of the run's


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    out = Path(options.out or Path(options.run) / "bundle")
    details = read_details(options.run, "a finished run's folder, such as runs/dense/repeat-0")
    micrograph = options.micrograph or details.get("micrograph")
    if not micrograph:
        raise InputError(f"{options.run} names no micrograph to check the export on: add micrograph=…")
    pixels = read_micrograph(micrograph).pixels
    if details.get("kind") == "dense":
        agreement = export_dense_segmenter(options.run, pixels, out, options.calibration)
    elif options.calibration:
        raise InputError(f"{options.run} is a Mask R-CNN, which computes in floats: leave out calibration")
    else:
        agreement = export_mask_rcnn(options.run, pixels, out)
    print(f"{out}: ONNX Runtime and PyTorch agree on {micrograph}: {agreement}")
    if peak := most_memory():
        print(f"the export took up to {peak / 1e9:.1f} GB of memory")
    return 0


def most_memory() -> int:
    """The most bytes of memory that this process has taken; 0 on Windows, which has no such count."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def export_dense_segmenter(run: str, pixels: np.ndarray, out: Path, calibration: str = "") -> str:
    model, details = load_dense(run)
    seen = [pixels, *(read_micrograph(path).pixels for path in chosen_micrographs(calibration))]
    pixels, *others = (percentile_normalise(each, *details["percentiles"]) for each in seen)
    difference = write_dense_bundle(out, model, read_settings(details), details, pixels, others)
    return f"their maps differ by {difference:.4f} {'on the mean' if others else 'at most'}"


def chosen_micrographs(folder: str) -> list[Path]:
    """Micrographs of `folder`, evenly spread and `CALIBRATING` at most; none of the folder ""."""
    if not folder:
        return []
    paths = find_micrographs(folder)
    return paths[:: -(-len(paths) // CALIBRATING)]


def export_mask_rcnn(run: str, pixels: np.ndarray, out: Path) -> str:
    model, details = load_detector(run)
    percentiles, threshold = details["normalisation"]["percentiles"], details["score_threshold"]
    scale = details["scale"]
    detections, proposals = listed_at_once(model)
    pixels = centre(resize(percentile_normalise(pixels, *percentiles), scale), TILE)
    compared = []

    def export(path: Path) -> None:
        export_detector(model, path)
        compared.append(check_export(model, path, pixels, threshold))

    write_bundle(
        out,
        export,
        {
            "kind": "mask_rcnn",
            "input": {"percentiles": percentiles, "low": 0, "high": 1, "scale": scale},
            "tile": TILE,
            "overlap": OVERLAP,
            "score_threshold": threshold,
            "mask_threshold": MASK_THRESHOLD,
            "class_names": details["class_names"],
            "pixel_size_nm": details["pixel_size_nm"],
            "detections_per_tile": detections,
            "proposals_per_tile": proposals,
        },
    )
    return f"{compared[0]} instances"


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle of an image, at most `side` px high and wide."""
    y, x = (max(length - side, 0) // 2 for length in pixels.shape)
    return np.ascontiguousarray(pixels[y : y + side, x : x + side])


def check_export(model: MaskRCNN, graph: Path, pixels: np.ndarray, score_threshold: float) -> int:
    """Compare the exported graph with the network on one normalised image `[H, W]`; the number of instances compared.

    Raises:
        InputError: when an instance that one of them finds lacks a counterpart in the other.
    """
    model.roi_heads.score_thresh = 0.0
    expected = detect(model, pixels)
    # A network that is sure of nothing here is compared on what it is most sure of.
    score_threshold = min(score_threshold, 0.9 * float(expected["scores"].max(initial=0)))
    lowest = score_threshold - SCORE_TOLERANCE
    expected = {name: values[expected["scores"] > lowest] for name, values in expected.items()}
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feed = {"image": pixels[None, None], "score_threshold": np.array([lowest], np.float32)}
    found = dict(zip(OUTPUTS, session.run(OUTPUTS, feed), strict=True))

    same = same_instances(expected, found, pixels.shape)
    for name, detections, paired in (("PyTorch", expected, same.any(1)), ("ONNX Runtime", found, same.any(0))):
        alone = (detections["scores"] > score_threshold + SCORE_TOLERANCE) & ~paired
        if alone.any():
            box = ", ".join(f"{side:.1f}" for side in detections["boxes"][alone][0])
            raise InputError(
                f"the export is not faithful: {alone.sum()} of {len(alone)} instances are found by {name} alone, the "
                f"first at ({box}) px; nothing was written: try other versions of torch and onnxruntime"
            )
    return len(expected["scores"])


def same_instances(expected: Detections, found: Detections, shape: tuple[int, int]) -> np.ndarray:
    """Bool `[N, M]`, at most one true in each row and column: which of N expected and M found instances are the same.

    Each expected instance, by falling score, takes the free one whose box overlaps it most; they are the same if box
    and mask agree to an IoU of `LEAST_IOU` and the scores to `SCORE_TOLERANCE`.
    """
    ious = box_ious(expected["boxes"], found["boxes"])
    masks = [paste_masks(side["boxes"], side["masks"], shape, MASK_THRESHOLD) for side in (expected, found)]
    same = np.zeros(ious.shape, bool)
    for row in range(len(ious) if ious.size else 0):
        free = np.where(same.any(0), -1, ious[row])
        column = int(free.argmax())
        same[row, column] = (
            free[column] >= LEAST_IOU
            and mask_iou(masks[0][row], masks[1][column]) >= LEAST_IOU
            and abs(expected["scores"][row] - found["scores"][column]) <= SCORE_TOLERANCE
        )
    return same


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union `[N, M]` of boxes `[N, 4]` and `[M, 4]` (x0, y0, x1, y1)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)


def mask_iou(first: tuple[int, int, np.ndarray], second: tuple[int, int, np.ndarray]) -> float:
    """Intersection over union of two pasted masks (y0, x0, bool crop); 1 when both are empty."""
    top, left = min(first[0], second[0]), min(first[1], second[1])
    bottom, right = (max(mask[axis] + mask[2].shape[axis] for mask in (first, second)) for axis in (0, 1))
    window = np.zeros((2, bottom - top, right - left), bool)
    for layer, (y0, x0, crop) in zip(window, (first, second), strict=True):
        layer[y0 - top : y0 - top + crop.shape[0], x0 - left : x0 - left + crop.shape[1]] = crop
    union = window.any(0).sum()
    return window.all(0).sum() / union if union else 1.0


if __name__ == "__main__":
    run_command(main)
