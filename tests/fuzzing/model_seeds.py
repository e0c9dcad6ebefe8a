"""Small whole bundles, backbones, fine-tuned runs, checkpoints, stores, clicks and options."""

import hashlib
import io
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import timm
import torch
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from safetensors.torch import save

from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.frozen.prototypes import Support, save_support
from sempre.models.backbones import BackboneDetails
from sempre.models.dense import DenseOptions, DenseSegmenter
from sempre.training.checkpointing import Progress, TrainingState, save_checkpoint
from tests.fuzzing.picture_seeds import GREY

BACKBONES = {"test_convnext": {}, "test_vit": {"img_size": 32, "dynamic_img_size": True}, "unet_small": {}}
SETTINGS = {"percentiles": [1.0, 99.0], "encoder_checksum": "0" * 64, "scale": 1.0, "size": 0, "pixel_size_nm": 0.0}
NETWORK = {"architecture": "unet_small"}


def graphs() -> list[bytes]:
    """A graph that serves both kinds of bundle: the image halved as both maps, and one box."""

    def tensor(name: str, shape: list[int | str]) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def constant(name: str, values: ArrayLike) -> NodeProto:
        value = numpy_helper.from_array(np.array(values, np.float32), name)
        return helper.make_node("Constant", [], [name], value=value)

    nodes = [
        helper.make_node("AveragePool", ["image"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["half", "half"], ["maps"], axis=1),
        helper.make_node("Identity", ["score_threshold"], ["unused"]),
        constant("boxes", [[2, 2, 20, 12]]),
        constant("scores", [0.9]),
        constant("masks", np.ones((1, 28, 28))),
    ]
    outputs = [tensor("maps", [1, 2, "p", "q"]), tensor("boxes", [1, 4]), tensor("scores", [1])]
    outputs += [tensor("masks", [1, 28, 28]), tensor("unused", [1])]
    inputs = [tensor("image", [1, 1, "h", "w"]), tensor("score_threshold", [1])]
    usual = [numpy_helper.from_array(np.array([0.5], np.float32), "score_threshold")]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, usual)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return [model.SerializeToString()]


def bundle_descriptions() -> list[bytes]:
    """`model.json` of both kinds, for the graph above."""
    shared = {
        "format": 1,
        "sha256": hashlib.sha256(graphs()[0]).hexdigest(),
        "input": {"percentiles": [1, 99], "low": 0, "high": 1, "scale": 1.0},
        "tile": 64,
        "overlap": 32,
        "class_names": ["particle"],
        "pixel_size_nm": 2.5,
        "sempre_version": "0.1.0",
    }
    decoding = {"foreground": 0.5, "marker": 0.5, "smallest": 12, "least_score": 0.5, "least_depth": 0.5}
    thresholds = {"score_threshold": 0.5, "mask_threshold": 0.5, "detections_per_tile": 100, "proposals_per_tile": 300}
    kinds = ({"kind": "dense", "scales": [0.5, 1.0], "decoding": decoding}, {"kind": "mask_rcnn", **thresholds})
    return [json.dumps(shared | kind).encode() for kind in kinds]


def backbone_details() -> list[bytes]:
    """`backbone.json` of a ConvNeXt, a vision transformer and a U-Net."""
    return [
        json.dumps(asdict(BackboneDetails(name, 1, "fcmae", "0" * 64, 0.5, {}, arguments))).encode()
        for name, arguments in BACKBONES.items()
    ]


def backbone_weights() -> list[bytes]:
    """The weights of the first of these."""
    torch.manual_seed(0)
    return [save(timm.create_model(next(iter(BACKBONES)), in_chans=1, num_classes=0).state_dict())]


def dense_weights() -> bytes:
    """The weights of a dense segmenter."""
    torch.manual_seed(0)
    return save(DenseSegmenter(DenseOptions(**NETWORK)).state_dict())


def run_details() -> list[bytes]:
    """`model.json` of a fine-tuned dense segmenter and of a Mask R-CNN."""
    decoding = {"foreground": 0.5, "marker": 0.5, "smallest": 12, "least_score": 0.5, "least_depth": 0.5}
    settings = {"decoding": decoding, "scales": [0.5, 1.0], "tile": 64, "overlap": 32, "flips": False}
    shared = {"percentiles": [1, 99], "class_names": ["particle"], "pixel_size_nm": None, "micrograph": "a.png"}
    dense = {"kind": "dense", "network": NETWORK, "settings": settings, **shared}
    detector = {"detector": {"architecture": "convnextv2_atto", "detections": 100}, "score_threshold": 0.5, **shared}
    return [json.dumps(details).encode() for details in (dense, detector)]


def training_state() -> TrainingState:
    """A small network after one step."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return TrainingState(model, optimizer, Progress(epoch=1, batch=2, step=3, seconds=4.5))


@cache
def checkpoint() -> dict[str, bytes]:
    """The files of its checkpoint by their names."""
    with TemporaryDirectory() as folder:
        save_checkpoint(training_state(), Path(folder))
        return {path.name: path.read_bytes() for path in (Path(folder) / "last").iterdir()}


def stores() -> list[bytes]:
    """A store of two sizes with labels and patches, and a shard of one."""
    return [_store(4), _store(2, shard="1/2", scale=1.0, crop_information_bar=True)]


def prototype_files() -> list[bytes]:
    """Kept cells of both sorts."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        save_support(path, Support(np.ones((2, 4), np.float32), np.zeros((1, 4), np.float32)), SETTINGS)
        return [path.read_bytes()]


def embedding_files() -> list[bytes]:
    """Embeddings of one micrograph."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        settings = {"encoder_checksum": "0" * 64, "cell": 16, "width": 4, "class_token": True}
        file.attrs["settings"] = json.dumps(settings)
        file["cells/2x3"] = np.ones((1, 2, 3, 4), np.float16)
        file["class_tokens"] = np.ones((1, 4), np.float32)
        columns = {"row": 0, "height": 24, "width": 36, "input_height": 32, "input_width": 48}
        for name, value in columns.items():
            file[f"index/{name}"] = np.array([value])
        file["index/sha256"] = np.array([b"a" * 64], "S64")
    return [content.getvalue()]


def clicks() -> list[bytes]:
    """Clicks of both sorts on two micrographs."""
    points = {"positive": [[3, 4], [10.5, 20]], "negative": [[0, 0]]}
    return [json.dumps({"a.tif": points, "b.tif": {"positive": [[1, 1]]}}).encode()]


def splits() -> list[bytes]:
    """A split as JSON and as rows."""
    return [json.dumps({"train": ["1"], "validation": []}).encode(), b"1,train\n2,validation\n"]


def options() -> list[bytes]:
    """A recipe's YAML, and `key=value` lines."""
    yaml = b"# a comment\nname: run\ndata: set\nepochs: 3\nrate: 1.0e-3\npercentiles: [1, 99]\nseed: 0\nscale: 0.5\n"
    return [yaml, b"name=run\ndata=set\nepochs=3\nrate=1e-3\npercentiles=[1,99]\nseed=0\nscale=${oc.env:HOME}\n"]


def _store(count: int, **settings: Any) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.h5"
        with StoreWriter(path, patch_size=8, patches=2, **settings) as writer:
            for number in range(count):
                pixels = np.roll(GREY, number, axis=number % 2)[:, : 36 - 8 * (number % 2)]
                digest = hashlib.sha256(pixels.tobytes()).hexdigest()
                label = ("rods", None)[number % 2]
                writer.append(StoredImage(f"a/{number}.tif", digest, 1000, 10**18, pixels, 2.5, label))
            writer.finish()
        return path.read_bytes()
