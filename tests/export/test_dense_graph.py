import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from sempre.export.dense_graph import DenseGraph, export_dense
from sempre.models.dense import DenseOptions, DenseSegmenter, as_network


def trained(architecture: str) -> DenseSegmenter:
    """A segmenter whose batch normalisation has statistics and scales of its own, as after training."""
    torch.manual_seed(0)
    model = DenseSegmenter(DenseOptions(architecture))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.3, 0.3)
    return model.eval()


@pytest.mark.parametrize("architecture", ["unet_small", "unet_medium", "convnextv2_atto"])
def test_onnx_runtime_finds_what_pytorch_finds_at_any_size(architecture, tmp_path):
    model = trained(architecture)
    export_dense(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for shape in ((64, 96), (160, 32), (224, 256)):
        image = np.random.default_rng(0).random(shape, dtype=np.float32)
        maps = session.run(["maps"], {"image": image[None, None]})[0][0]
        # The weights are stored in half precision, with eleven bits.
        np.testing.assert_allclose(maps, as_network(model)(image), atol=0.02)


def test_folding_changes_nothing_and_leaves_the_model_alone():
    model = trained("unet_small")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    graph = DenseGraph(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in graph.modules())
    image = torch.rand(1, 1, 64, 64)
    maps = model(image)
    torch.testing.assert_close(graph(image)[:, 1], maps[:, 1], atol=1e-4, rtol=1e-4)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_the_file_is_half_as_large_as_the_weights(tmp_path):
    model = DenseSegmenter(DenseOptions("unet_medium"))
    export_dense(model, tmp_path / "model.onnx")
    weights = sum(weight.numel() for weight in model.parameters())
    assert (tmp_path / "model.onnx").stat().st_size < 2.1 * weights < 20e6


def test_8_bit_integers_give_nearly_the_same_maps(tmp_path):
    model = trained("unet_small")
    random = np.random.default_rng(0)
    images = [random.random((64, 96), dtype=np.float32) for _ in range(4)]
    export_dense(model, tmp_path / "model.onnx", calibration=images)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    image = random.random((160, 128), dtype=np.float32)
    maps, expected = session.run(["maps"], {"image": image[None, None]})[0][0], as_network(model)(image)
    assert 1e-5 < np.abs(maps - expected).mean() < 0.03
    assert np.corrcoef(maps.ravel(), expected.ravel())[0, 1] > 0.99
    weights = sum(weight.numel() for weight in model.parameters())
    assert (tmp_path / "model.onnx").stat().st_size < 1.3 * weights
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "QuantizeLinear" in kinds
