"""Official weight files give timm's network the answers of the original, for a grey picture as the original sees it."""

import argparse
from pathlib import Path

import pytest
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from sempre.errors import InputError
from sempre.images.normalise import MEAN, STD
from sempre.models.official_vit import load_official_vit

DINO, DINOV2 = "vit_small_patch16_224", "vit_small_patch14_dinov2"
REGISTERS, SWIGLU = "vit_small_patch14_reg4_dinov2", "vit_giant_patch14_dinov2"
KINDS = (DINO, DINOV2, REGISTERS, SWIGLU)


def small_network(kind: str, seed: int = 0, cells: int = 4, channels: int = 3, **options) -> VisionTransformer:
    """A network of the kind's blocks, small, for images of `cells` by `cells` patches; all its weights random."""
    torch.manual_seed(seed)
    patch = 16 if kind == DINO else 14
    size = {"img_size": cells * patch, "embed_dim": 24, "depth": 2, "num_heads": 3}
    network = timm.create_model(kind, in_chans=channels, num_classes=0, **size | options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def official_layout(network: VisionTransformer) -> dict[str, Tensor]:
    """The weights under the official code's names."""
    weights = dict(network.state_dict())
    if network.num_reg_tokens:
        # There the class token's own embedding is added to it at run time.
        embedding = torch.randn(1, 1, network.embed_dim)
        weights["register_tokens"] = weights.pop("reg_token")
        weights["pos_embed"] = torch.cat([embedding, weights["pos_embed"]], dim=1)
        weights["cls_token"] = weights["cls_token"] - embedding
    if "blocks.0.ls1.gamma" in weights:  # DINOv2
        weights["mask_token"] = torch.randn(1, network.embed_dim)
    if type(network.blocks[0].mlp).__name__ != "Mlp":  # SwiGLU
        weights = {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): w for name, w in weights.items()}
    return weights


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def normalised(levels: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    return (levels - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]


def test_the_names_are_the_official_codes():
    names = set(official_layout(small_network(REGISTERS)))
    assert {"cls_token", "pos_embed", "register_tokens", "mask_token", "patch_embed.proj.weight", "norm.bias"} < names
    block = {name.removeprefix("blocks.1.") for name in names if name.startswith("blocks.1.")}
    assert {"norm1.weight", "attn.qkv.bias", "attn.proj.weight", "ls1.gamma", "mlp.fc1.bias", "ls2.gamma"} < block
    assert {"blocks.0.mlp.w12.weight", "blocks.0.mlp.w3.bias"} < set(official_layout(small_network(SWIGLU)))
    assert not any("ls1" in name for name in official_layout(small_network(DINO)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_micrograph_gets_the_originals_answer_to_the_grey_picture(tmp_path, kind):
    original, network = small_network(kind), small_network(kind, seed=1, channels=1)
    load_official_vit(network, save(tmp_path / "official.pth", official_layout(original)))
    size = network.patch_embed.img_size[0]
    levels = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    picture = normalised(levels.expand(-1, 3, -1, -1), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    with torch.no_grad():
        expected = original.forward_features(picture)
        found = network.forward_features((levels - MEAN) / STD)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_three_channels_stay_three(tmp_path, kind):
    original, network = small_network(kind), small_network(kind, seed=1)
    load_official_vit(network, save(tmp_path / "official.pth", official_layout(original)))
    loaded = network.state_dict()
    for name, weight in original.state_dict().items():
        torch.testing.assert_close(loaded[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_positional_embeddings_are_interpolated(tmp_path, kind):
    original, network = small_network(kind, cells=6), small_network(kind, seed=1, cells=4)
    weights = official_layout(original)
    ramp = torch.linspace(-1, 1, 6)[None, :].expand(6, 6).reshape(1, 36, 1)  # rises from left to right
    weights["pos_embed"] = torch.cat([weights["pos_embed"][:, :1], ramp.expand(-1, -1, 24)], dim=1)
    load_official_vit(network, save(tmp_path / "official.pth", weights))
    grid = network.pos_embed[0, -16:, 0].detach().view(4, 4)
    torch.testing.assert_close(grid, grid[:1].expand(4, 4))
    assert (grid.diff(dim=1) > 0.3).all()
    assert torch.equal(network.blocks[1].attn.qkv.weight, original.blocks[1].attn.qkv.weight)


def test_the_teacher_of_a_training_checkpoint_is_taken(tmp_path):
    original, network = small_network(DINO), small_network(DINO, seed=1)
    teacher = {f"backbone.{name}": weight for name, weight in official_layout(original).items()}
    teacher |= {"head.mlp.0.weight": torch.zeros(8, 24), "head.last_layer.weight_g": torch.ones(16, 1)}
    student = {f"module.{name}": torch.zeros_like(weight) for name, weight in teacher.items()}
    content = {"student": student, "teacher": teacher, "epoch": 3, "args": argparse.Namespace(arch="vit_small")}
    load_official_vit(network, save(tmp_path / "checkpoint.pth", content))
    assert torch.equal(network.blocks[0].mlp.fc1.weight, original.blocks[0].mlp.fc1.weight)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        (DINO, {}, r"patches of \[16, 16\] px, the network's are of \[14, 14\] px"),
        (REGISTERS, {}, "has 4 registers, the network 0"),
        (DINOV2, {"depth": 3}, r"also has blocks\.2\."),
        (DINOV2, {"depth": 1}, r"has no blocks\.1\."),
        (DINOV2, {"embed_dim": 48}, r"pos_embed is \[1, 17, 48\]"),
        (SWIGLU, {}, r"blocks\.0\.mlp\.fc1\.weight is \[128, 24\], not \[96, 24\]"),
    ],
)
def test_another_architecture_is_told_by_what_differs(tmp_path, kind, options, reason):
    network = small_network(DINOV2, seed=1)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    with pytest.raises(InputError, match=reason):
        load_official_vit(network, save(tmp_path / "other.pth", official_layout(small_network(kind, **options))))
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


def test_no_vision_transformer_is_refused(tmp_path):
    with pytest.raises(InputError, match="not for a ConvNeXt"):
        load_official_vit(timm.create_model("convnextv2_atto", num_classes=0), tmp_path / "official.pth")


class NotAWeight:
    pass


def test_bad_files_are_refused(tmp_path):
    network, path = small_network(DINO), tmp_path / "official.pth"
    with pytest.raises(InputError, match="does not exist"):
        load_official_vit(network, path)
    weights = official_layout(network)
    whole = save(path, weights).read_bytes()
    for content in (b"", b"not weights", whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            load_official_vit(network, path)
    for content, reason in (
        ({"model": NotAWeight()}, "more than weights"),
        ([1, 2], "no state dict"),
        ({"epoch": 3}, "no file of the official"),
        ({name: weight for name, weight in weights.items() if name != "pos_embed"}, "it has no pos_embed"),
        (weights | {"pos_embed": torch.zeros(1, 12, 24)}, r"pos_embed is \[1, 12, 24\]"),
        (weights | {"patch_embed.proj.weight": torch.zeros(24)}, r"patches of \[\] px"),
        (
            weights | {"patch_embed.proj.weight": torch.zeros(24, 5, 16, 16)},
            r"\[24, 5, 16, 16\], not \[24, 3, 16, 16\]",
        ),
    ):
        with pytest.raises(InputError, match=reason):
            load_official_vit(network, save(path, content))
