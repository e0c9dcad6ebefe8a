"""Time the released model and the exported detector against a plain `torch.onnx.export` of torchvision's Mask R-CNN.

    python tools/bench_export.py [height=1200] [width=1920] [detections=200]

Random weights on one image of noise and discs, which keep their best `detections` whatever they score. The plain graph
ends with torchvision's full-size masks, which are then only painted; ours ends with small masks, which are pasted and
painted. The released model gets the raw micrograph: it is normalised, seen at every scale, and decoded.
Whole paths are timed in ONNX Runtime, from pixels to a label image, in turns.
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from sempre.config import read_options
from sempre.deploy.released import DEFAULT, find_bundle
from sempre.deploy.segmenter import Segmenter
from sempre.errors import run_command
from sempre.export.detector_graph import OUTPUTS, export_detector
from sempre.images.normalise import to_uint8
from sempre.models.mask_rcnn import DetectorOptions, MicrographTransform, build_mask_rcnn
from sempre.ranges import Count
from sempre.segmentation.detections import paste_masks
from sempre.segmentation.tiling import paint_particles


@dataclass
class Options:
    height: Count = 1200  # of the image, px
    width: Count = 1920  # of the image, px
    detections: Count = 200  # number of detections on the image
    architecture: str = "convnextv2_pico"  # backbone
    pyramid_channels: Count = 256  # width of the feature pyramid and mask head
    threads: Count = 2  # threads of ONNX Runtime
    model: str = DEFAULT  # also time this bundle: a released model's name or a folder
    repeats: Count = 3  # timed runs of each, after one that is not timed


class PastingTransform(MicrographTransform):
    """With torchvision's own end: every mask pasted into an image of the micrograph's size."""

    postprocess = GeneralizedRCNNTransform.postprocess


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = build_mask_rcnn(
        DetectorOptions(options.architecture, pyramid_channels=options.pyramid_channels, detections=options.detections)
    ).eval()
    pixels = discs(options.height, options.width)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        export_detector(model, folder / "ours.onnx")
        export_plainly(model, pixels, folder / "plain.onnx")
        ours, plain = (open_session(folder / name, options.threads) for name in ("ours.onnx", "plain.onnx"))

    released, micrograph = Segmenter(find_bundle(options.model), options.threads), to_uint8(pixels)
    paths = {
        "plain": lambda: segment_plainly(plain, pixels),
        "ours": lambda: segment(ours, pixels),
        options.model: lambda: len(released.find(micrograph)[1]),
    }
    seconds = {name: [] for name in paths}
    for _ in range(options.repeats + 1):
        for name, path in paths.items():
            taken, found = measure(path)
            seconds[name].append(taken)
            print(f"{name}: {found} instances, {taken:.2f} s", flush=True)
    print(f"{options.width}x{options.height} px, {options.threads} threads, medians of {options.repeats}:")
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} s, {medians['plain'] / median:.1f}x")
    return 0


def discs(height: int, width: int) -> np.ndarray:
    """Discs of 40 px on noise, float32 `[H, W]` in [0, 1]."""
    y, x = np.mgrid[:height, :width]
    disc = (y % 80 - 40) ** 2 + (x % 80 - 40) ** 2 < 20**2
    noise = np.random.default_rng(0).normal(0.3, 0.1, (height, width))
    return (noise + 0.4 * disc).clip(0, 1).astype(np.float32)


def export_plainly(model: MaskRCNN, pixels: np.ndarray, path: Path) -> None:
    """As torchvision's documentation does it."""
    transform, model.transform = model.transform, PastingTransform().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter says that it is deprecated
        torch.onnx.export(
            model,
            ([torch.from_numpy(pixels)[None]],),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["boxes", "labels", "scores", "masks"],
            dynamic_axes={"image": {1: "height", 2: "width"}},
        )
    model.transform = transform


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def segment_plainly(session: onnxruntime.InferenceSession, pixels: np.ndarray) -> int:
    """Paint the full-size masks into a label image; the number of instances."""
    scores, masks = session.run(["scores", "masks"], {"image": pixels[None]})
    paint_particles([(0, 0, mask[0] >= 0.5) for mask in masks], scores, pixels.shape)
    return len(scores)


def segment(session: onnxruntime.InferenceSession, pixels: np.ndarray) -> int:
    """Paste the small masks and paint them into a label image; the number of instances."""
    feed = {"image": pixels[None, None], "score_threshold": np.array([0.05], np.float32)}
    boxes, scores, masks = session.run(OUTPUTS, feed)
    paint_particles(paste_masks(boxes, masks, pixels.shape), scores, pixels.shape)
    return len(scores)


def measure(work: Callable[[], int]) -> tuple[float, int]:
    """Seconds that `work` takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    run_command(main)
