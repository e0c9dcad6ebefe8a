"""The dense segmenter as a graph for deployment: an image in; probability of foreground and depth out."""

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from timm.layers.conv2d_same import Conv2dSame
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sempre.errors import InputError
from sempre.models.export.quantise import quantise
from sempre.models.segmenters.dense import DenseSegmenter

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
    images float32 `[h, w]` for `calibration` it computes in 8-bit integers (`sempre.models.export.quantise`).

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
