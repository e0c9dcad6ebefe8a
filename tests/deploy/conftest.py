import hashlib
import json

import numpy as np
import pytest


def bright_box_model():
    """An ONNX model that finds one particle: the box around all pixels above 0.5, with 0.9 times the largest as score.

    The mask is full. In a dark image nothing scores more than the threshold.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, value):
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value), name))

    node = helper.make_node
    nodes = [
        constant("half", np.float32(0.5)),
        constant("one", np.int64(1)),
        constant("first_axis", np.array([0])),
        constant("not_columns", np.array([0, 1, 2])),
        constant("not_rows", np.array([0, 1, 3])),
        constant("all_axes", np.array([0, 1, 2, 3])),
        constant("share", np.float32(0.9)),
        constant("full", np.ones((1, 28, 28), np.float32)),
        node("Greater", ["image", "half"], ["bright"]),
        node("Cast", ["bright"], ["brightness"], to=TensorProto.FLOAT),
    ]
    for name, others in (("x", "not_columns"), ("y", "not_rows")):
        nodes += [
            node("ReduceMax", ["brightness", others], [f"{name}_profile"], keepdims=0),
            node("ArgMax", [f"{name}_profile"], [f"{name}0"], axis=0, keepdims=1),
            node("ArgMax", [f"{name}_profile"], [f"{name}_last"], axis=0, keepdims=1, select_last_index=1),
            node("Add", [f"{name}_last", "one"], [f"{name}1"]),
        ]
    nodes += [
        node("Concat", ["x0", "y0", "x1", "y1"], ["corners"], axis=0),
        node("Cast", ["corners"], ["float_corners"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["float_corners", "first_axis"], ["all_boxes"]),
        node("ReduceMax", ["image", "all_axes"], ["brightest"], keepdims=0),
        node("Mul", ["brightest", "share"], ["score"]),
        node("Unsqueeze", ["score", "first_axis"], ["all_scores"]),
        node("Greater", ["all_scores", "score_threshold"], ["kept"]),
        node("Compress", ["all_boxes", "kept"], ["boxes"], axis=0),
        node("Compress", ["all_scores", "kept"], ["scores"], axis=0),
        node("Compress", ["full", "kept"], ["masks"], axis=0),
    ]

    def tensor(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "bright_box",
        [tensor("image", [1, 1, "h", "w"]), tensor("score_threshold", [1])],
        [tensor("boxes", ["n", 4]), tensor("scores", ["n"]), tensor("masks", ["n", 28, 28])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_bundle(folder, model, **changes):
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    description = {
        "format": 1,
        "sha256": hashlib.sha256(model).hexdigest(),
        "input": {"percentiles": [1, 99], "low": 0, "high": 1, "scale": 1.0},
        "tile": 1024,
        "overlap": 256,
        "score_threshold": 0.5,
        "mask_threshold": 0.5,
        "class_names": ["particle"],
        "pixel_size_nm": None,
        "detections_per_tile": 500,
        "sempre_version": "0.1.0",
    } | changes
    (folder / "model.json").write_text(json.dumps(description))
    return folder


def write_brightness_bundle(folder):
    """A dense bundle, whose network takes what is bright for particles."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("AveragePool", ["image"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["half", "half"], ["maps"], axis=1),
    ]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "h", "w"])
        for name, channels in (("image", 1), ("maps", 2))
    ]
    graph = helper.make_graph(nodes, "brightness", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return write_bundle(
        folder,
        model.SerializeToString(),
        kind="dense",
        scales=[0.5, 1.0],
        decoding={"foreground": 0.5, "marker": 0.5, "smallest": 12, "least_score": 0.5, "least_depth": 0.5},
    )


@pytest.fixture(scope="session")
def bright_box_bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "bright_box", bright_box_model())


@pytest.fixture
def any_bundle(tmp_path):
    """A bundle that can be read but not run, and the means to write another."""
    return lambda **changes: write_bundle(tmp_path / "bundle", b"no network", **changes)
