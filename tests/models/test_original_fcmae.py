"""Original ConvNeXtV2 checkpoints: exact both ways, with the kernels where MinkowskiEngine has them."""

import argparse

import pytest
import timm
import torch
from torch.nn import functional

from sempre.errors import InputError
from sempre.models.original_fcmae import (
    convolution_to_sparse,
    depthwise_to_sparse,
    holds_original_weights,
    load_original_weights,
    open_original_weights,
    original_state_dict,
    save_original_weights,
)


def small_network(seed: int, dims: tuple = (8, 12, 16, 24), conv_mlp: bool = True, **options):
    torch.manual_seed(seed)
    options = {"in_chans": 1, "num_classes": 0, "depths": (1, 1, 2, 1), **options}
    network = timm.create_model("convnextv2_atto", dims=dims, conv_mlp=conv_mlp, **options)
    for parameter in network.parameters():  # timm starts GRN and biases at zero, which would hide a mix-up
        torch.nn.init.normal_(parameter)
    return network


def encoder_weights(network) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in network.state_dict().items() if not name.startswith("head.")}


def assert_same_encoder(network, other) -> None:
    theirs = encoder_weights(other)
    assert encoder_weights(network).keys() == theirs.keys()
    for name, weight in encoder_weights(network).items():
        assert torch.equal(weight, theirs[name]), name


def save(path, weights: dict, **others):
    torch.save({"model": weights, **others}, path)
    return path


def dense_layout(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the original fine-tuning code makes of a pretrained encoder, written down parameter by parameter."""
    dense = {}
    for name, weight in weights.items():
        name = name.removeprefix("encoder.")
        if name.endswith("dwconv.kernel"):
            kernel = weight.new_zeros(weight.shape[1], 1, 7, 7)
            for y in range(7):
                for x in range(7):
                    kernel[:, 0, y, x] = weight[x * 7 + y]
            weight = kernel
        elif name.endswith("kernel"):
            kernel = weight.new_zeros(weight.shape[2], weight.shape[1], 2, 2)
            for y in range(2):
                for x in range(2):
                    kernel[:, :, y, x] = weight[x * 2 + y].T
            weight = kernel
        elif "grn" in name:
            weight = weight.view(1, 1, 1, -1)
        elif name.endswith("bias"):
            weight = weight.flatten()
        dense[name.replace(".ln.", ".").replace(".linear.", ".").replace(".kernel", ".weight")] = weight
    return dense


@pytest.mark.parametrize("conv_mlp", [True, False])
def test_there_and_back_nothing_changes(tmp_path, conv_mlp):
    network, other = small_network(0, conv_mlp=conv_mlp), small_network(1, conv_mlp=conv_mlp)
    save_original_weights(network, tmp_path / "original.pth")
    load_original_weights(other, tmp_path / "original.pth")
    assert_same_encoder(network, other)
    weights = original_state_dict(network)
    again = original_state_dict(other)
    assert weights.keys() == again.keys() and all(torch.equal(weights[name], again[name]) for name in weights)


def test_the_names_and_shapes_are_the_original_codes():
    shapes = {name: tuple(weight.shape) for name, weight in original_state_dict(small_network(0)).items()}
    block = "encoder.stages.2.1."
    assert {name: shape for name, shape in shapes.items() if name.startswith(block)} == {
        block + "dwconv.kernel": (49, 16),
        block + "dwconv.bias": (1, 16),
        block + "norm.ln.weight": (16,),
        block + "norm.ln.bias": (16,),
        block + "pwconv1.linear.weight": (64, 16),
        block + "pwconv1.linear.bias": (64,),
        block + "grn.gamma": (1, 64),
        block + "grn.beta": (1, 64),
        block + "pwconv2.linear.weight": (16, 64),
        block + "pwconv2.linear.bias": (16,),
    }
    first = "encoder.downsample_layers."
    assert {name: shape for name, shape in shapes.items() if name.startswith((first + "0", first + "1"))} == {
        first + "0.0.weight": (8, 1, 4, 4),
        first + "0.0.bias": (8,),
        first + "0.1.weight": (8,),
        first + "0.1.bias": (8,),
        first + "1.0.ln.weight": (8,),
        first + "1.0.ln.bias": (8,),
        first + "1.1.kernel": (4, 8, 12),
        first + "1.1.bias": (1, 12),
    }
    assert len(shapes) == 4 + 3 * 4 + 5 * 10


def test_depthwise_kernels_have_the_x_offset_slowest():
    """A submanifold convolution by its definition, one offset after the other, against torch's dense one."""
    torch.manual_seed(0)
    weight, image = torch.randn(3, 1, 7, 7), torch.randn(3, 9, 11)
    shown = torch.rand(9, 11) < 0.5
    kernel = depthwise_to_sparse(weight)
    cells = {(int(y), int(x)): image[:, y, x] for y, x in shown.nonzero()}
    expected = functional.conv2d((image * shown)[None], weight, padding=3, groups=3)[0]
    offsets = [(x, y) for x in range(-3, 4) for y in range(-3, 4)]  # MinkowskiEngine's order
    for y, x in cells:
        total = torch.zeros(3)
        for row, (right, down) in enumerate(offsets):
            if (y + down, x + right) in cells:
                total += kernel[row] * cells[y + down, x + right]
        torch.testing.assert_close(total, expected[:, y, x], atol=1e-5, rtol=0)


def test_downsampling_kernels_have_the_x_offset_slowest():
    torch.manual_seed(0)
    weight, image = torch.randn(5, 3, 2, 2), torch.randn(3, 4, 6)
    kernel = convolution_to_sparse(weight)
    expected = functional.conv2d(image[None], weight, stride=2)[0]
    offsets = [(x, y) for x in range(2) for y in range(2)]
    for y in range(2):
        for x in range(3):
            total = sum(image[:, 2 * y + down, 2 * x + right] @ kernel[i] for i, (right, down) in enumerate(offsets))
            torch.testing.assert_close(total, expected[:, y, x], atol=1e-5, rtol=0)


def test_the_dense_layout_is_read_with_its_final_norm(tmp_path):
    network, other = small_network(0, dims=(8, 16, 24, 32)), small_network(1, dims=(8, 16, 24, 32), num_classes=0)
    weights = dense_layout(original_state_dict(network))
    weights |= {"norm.weight": torch.randn(32), "norm.bias": torch.randn(32), "head.weight": torch.randn(10, 32)}
    load_original_weights(other, save(tmp_path / "dense.pth", weights))
    assert_same_encoder(network, other)
    assert torch.equal(other.head.norm.weight, weights["norm.weight"])


@pytest.mark.parametrize("nested", ["model", "state_dict", None])
@pytest.mark.parametrize("prefix", ["encoder.", ""])
def test_nesting_prefix_and_decoder_do_not_matter(tmp_path, nested, prefix):
    network, other = small_network(0), small_network(1)
    weights = {prefix + name.removeprefix("encoder."): weight for name, weight in original_state_dict(network).items()}
    weights |= {"mask_token": torch.zeros(1, 8, 1, 1), "proj.weight": torch.zeros(8, 24, 1, 1)}
    weights |= {"decoder.0.dwconv.weight": torch.zeros(8, 1, 7, 7), "pred.bias": torch.zeros(32 * 32)}
    torch.save({nested: weights} if nested else weights, tmp_path / "weights.pth")
    head = {name: weight.clone() for name, weight in other.head.state_dict().items()}
    load_original_weights(other, tmp_path / "weights.pth")
    assert_same_encoder(network, other)
    assert all(torch.equal(weight, head[name]) for name, weight in other.head.state_dict().items())


def test_whole_training_checkpoints_and_old_files_are_read(tmp_path):
    network, other = small_network(0), small_network(1)
    weights = original_state_dict(network)
    others = {"args": argparse.Namespace(lr=1e-3, output_dir="out"), "epoch": 3, "optimizer": {"state": {}}}
    load_original_weights(other, save(tmp_path / "training.pth", weights, **others))
    assert_same_encoder(network, other)
    torch.save({"model": weights}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    other = small_network(1)
    load_original_weights(other, tmp_path / "old.pth")
    assert_same_encoder(network, other)


def test_a_colour_stem_is_averaged_on_request(tmp_path):
    colour, grey = small_network(0, in_chans=3), small_network(1)
    save_original_weights(colour, tmp_path / "colour.pth")
    with pytest.raises(InputError, match=r"stem for 3 channels, the network takes 1.*average_stem"):
        load_original_weights(grey, tmp_path / "colour.pth")
    load_original_weights(grey, tmp_path / "colour.pth", average_stem=True)
    torch.testing.assert_close(grey.stem[0].weight, colour.stem[0].weight.mean(1, keepdim=True))
    assert torch.equal(grey.stages[3].blocks[0].conv_dw.weight, colour.stages[3].blocks[0].conv_dw.weight)
    again = small_network(2, in_chans=3)
    load_original_weights(again, tmp_path / "colour.pth", average_stem=True)
    assert_same_encoder(colour, again)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dims": (8, 12, 16, 32)}, r"downsample_layers\.3\.1\.weight is \[32, 16, 2, 2\], not \[24, 16, 2, 2\]"),
        ({"depths": (1, 1, 3, 1)}, r"it also has stages\.2\.2\.dwconv\.bias"),
        ({"depths": (1, 1, 1, 1)}, r"it has no stages\.2\.1\.conv_dw|it has no stages\.2\.1\.dwconv"),
    ],
)
def test_another_architecture_is_told_by_what_differs(tmp_path, options, reason):
    save_original_weights(small_network(0, **options), tmp_path / "other.pth")
    network = small_network(1)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    with pytest.raises(InputError, match=reason):
        load_original_weights(network, tmp_path / "other.pth")
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


class NotAWeight:
    pass


def test_bad_files_are_refused(tmp_path):
    network = small_network(0)
    path = tmp_path / "weights.pth"
    with pytest.raises(InputError, match="does not exist"):
        load_original_weights(network, path)
    save_original_weights(network, path)
    whole = path.read_bytes()
    for content in (b"", b"not weights", whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            load_original_weights(network, path)
    torch.save({"model": NotAWeight()}, path)
    with pytest.raises(InputError, match="more than weights"):
        load_original_weights(network, path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="no state dict"):
        load_original_weights(network, path)
    torch.save(network.state_dict(), path)
    with pytest.raises(InputError, match="no checkpoint of the original"):
        load_original_weights(network, path)
    for name in ("downsample_layers.0.0.weight", "downsample_layers.1.1.kernel", "stages.0.0.dwconv.kernel"):
        for wrong in (torch.zeros(5, 8, 12), torch.zeros(7), torch.tensor(1.0)):
            torch.save(original_state_dict(network) | {f"encoder.{name}": wrong}, path)
            with pytest.raises(InputError, match=name.rpartition(".")[0]):
                load_original_weights(network, path)


def test_only_convnextv2_has_an_original_layout(tmp_path):
    for architecture in ("convnext_atto", "resnet18"):
        with pytest.raises(InputError, match="no ConvNeXtV2"):
            save_original_weights(timm.create_model(architecture, num_classes=0), tmp_path / "weights.pth")
    with pytest.raises(InputError, match="cannot save"):
        save_original_weights(small_network(0), tmp_path / "absent" / "weights.pth")


def test_a_public_file_with_a_classifier_is_opened_as_the_network_that_its_weights_tell(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("convnextv2_atto", in_chans=3, num_classes=0)
    torch.nn.init.normal_(network.head.norm.weight)
    weights = dense_layout(original_state_dict(network))
    norm = {f"norm.{name}": weight.detach() for name, weight in network.head.norm.named_parameters()}
    classifier = {"head.weight": torch.zeros(1000, 320), "head.bias": torch.zeros(1000)}
    path = save(tmp_path / "convnextv2_atto_1k_224_ema.pt", {**weights, **norm, **classifier})
    assert holds_original_weights(path)
    opened, architecture, levels = open_original_weights(path)
    assert (architecture, len(levels["mean"])) == ("convnextv2_atto", 3)
    assert all(torch.equal(weight, opened.state_dict()[name]) for name, weight in network.state_dict().items())
    assert not holds_original_weights(save(tmp_path / "other.pth", {"patch_embed.proj.weight": torch.zeros(1)}))
    with pytest.raises(InputError, match=r"other\.pth holds no ConvNeXtV2"):
        open_original_weights(tmp_path / "other.pth")
