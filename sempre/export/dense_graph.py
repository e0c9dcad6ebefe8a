"""The dense segmenter as a graph for deployment, in float or 8-bit integers, and as a bundle that was tried."""

import copy
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from timm.layers.conv2d_same import Conv2dSame
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sempre.errors import InputError
from sempre.export.bundle_writer import write_bundle
from sempre.images.resize import resize
from sempre.models.dense import DenseSegmenter, as_network
from sempre.segmentation.maps import MULTIPLE, DenseSettings, predict_maps


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


OUTPUTS = ["maps"]


class DenseGraph(nn.Module):
    """`forward(image [1, 1, H, W] in [0, 1])` gives `maps [1, 2, H / 2, W / 2]`: probability of foreground, depth."""

    def __init__(self, model: DenseSegmenter):
        super().__init__()
        self.model = fix_padding(fold_batch_norm(copy.deepcopy(model.eval())))

    def forward(self, image: Tensor) -> Tensor:
        foreground, depth, _ = self.model(image).split(1, dim=1)
        return torch.cat([foreground.sigmoid(), depth], dim=1)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Fold every batch normalisation that follows a convolution in an `nn.Sequential` into its weights, in place."""
    for sequence in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for index in range(1, len(sequence)):
            convolution, norm = sequence[index - 1], sequence[index]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[index - 1] = fuse_conv_bn_eval(convolution, norm)
                sequence[index] = nn.Identity()
    return model


def fix_padding(model: nn.Module) -> nn.Module:
    """Pad by constants where timm's `Conv2dSame` works the padding out from the image's size, in place.

    It is the same for all sizes that the strides divide. Worked out in the graph, it would be computed in 8-bit
    integers with the rest, and come out wrong.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, Conv2dSame):
                continue
            same = cast(nn.Conv2d, child)
            sizes = zip(same.kernel_size, same.dilation, same.stride, strict=True)
            whole = [max((kernel - 1) * dilation + 1 - stride, 0) for kernel, dilation, stride in sizes]
            (above, below), (left, right) = ((sides // 2, sides - sides // 2) for sides in whole)
            plain = nn.Conv2d(
                same.in_channels,
                same.out_channels,
                (same.kernel_size[0], same.kernel_size[1]),
                (same.stride[0], same.stride[1]),
                dilation=(same.dilation[0], same.dilation[1]),
                groups=same.groups,
                bias=same.bias is not None,
            )
            plain.load_state_dict(same.state_dict())
            setattr(parent, name, nn.Sequential(nn.ZeroPad2d((left, right, above, below)), plain))
    return model


def export_dense(model: DenseSegmenter, path: Path, calibration: Sequence[np.ndarray] = ()) -> None:
    """Write `model` as an ONNX file with the input and output of `DenseGraph`, for sides that are multiples of 32.

    Weights are stored in half precision, which halves the file, and ONNX Runtime computes in single precision; with
    images float32 `[h, w]` for `calibration` it computes in 8-bit integers (`sempre.export.dense_graph`).

    Raises:
        InputError: for a vision transformer with learnt positions, whose interpolation ONNX does not have.
    """
    if isinstance(getattr(model.encoder, "body", None), VisionTransformer):
        raise InputError(
            f"{model.architecture} cannot be exported, for ONNX does not have the interpolation of its positions: "
            "take vit_small_patch16_dinov3, a Swin or a convolutional network"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter says that it is deprecated
        torch.onnx.export(
            DenseGraph(model).cpu().float(),
            (torch.rand(1, 1, 64, 96),),
            str(path),  # beside which the exporter can put what exceeds 2 GB
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=OUTPUTS,
            dynamic_axes={name: {2: "height", 3: "width"} for name in ("image", *OUTPUTS)},
        )
    if len(calibration):
        quantise(path, calibration)
    else:
        # Loaded whole, so what lay beside a graph of more than 2 GB is in the one file that is half as large.
        onnx.save(halve_weights(onnx.load(path)), path)


def halve_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Store float32 weights as float16 with a cast behind each, which ONNX Runtime carries out once, when it loads."""
    casts = []
    for weight in graph.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < 64:
            continue
        name = weight.name
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{name}_half")
        weight.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.graph.node.insert(0, node)
    return graph


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
