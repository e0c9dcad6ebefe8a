"""MinkowskiEngine, where installed, computes what the packed encoder does; elsewhere the error says what to do."""

import sys

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sempre.errors import InputError
from sempre.models.minkowski import MinkowskiEncoder, import_minkowski
from sempre.models.packed import PATCH, PackedEncoder
from sempre.models.timm_networks import use_float32_grn


def minkowski_works() -> bool:
    try:
        import_minkowski()
    except InputError:
        return False
    return True


needs_minkowski = pytest.mark.skipif(not minkowski_works(), reason="MinkowskiEngine is not installed: make minkowski")


def small_network(conv_mlp: bool, seed: int, **options):
    torch.manual_seed(seed)
    options = {"depths": (1, 2, 1, 1), "dims": (8, 12, 16, 24), "conv_mlp": conv_mlp, **options}
    network = timm.create_model("convnextv2_atto", in_chans=1, num_classes=0, **options)
    for name, parameter in network.named_parameters():
        if "grn" in name or "bias" in name:  # timm starts them at zero, which would hide errors in them
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def random_input(batch: int, rows: int, columns: int, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 1, rows * PATCH, columns * PATCH, generator=generator)
    kept = max(1, round(share * rows * columns))
    order = [torch.randperm(rows * columns, generator=generator)[:kept] for _ in range(batch)]
    return images, torch.stack(order)


def output_and_gradients(network, encoder, images, visible) -> tuple[torch.Tensor, dict]:
    network.zero_grad()
    output = encoder(images, visible)
    (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).mean().backward()
    return output.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@needs_minkowski
@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    share=st.sampled_from([0.1, 0.4, 0.5, 0.75, 1.0]),
    batch=st.integers(1, 3),
    conv_mlp=st.booleans(),
    scope=st.sampled_from(["image", "batch"]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_packed_encoder(size, share, batch, conv_mlp, scope, seed):
    network = use_float32_grn(small_network(conv_mlp, seed), scope)
    inputs = random_input(batch, *size, share, seed)
    packed, packed_gradients = output_and_gradients(network, PackedEncoder(network), *inputs)
    sparse, sparse_gradients = output_and_gradients(network, MinkowskiEncoder(network), *inputs)
    assert (sparse - packed).abs().max() < 1e-5
    assert sparse_gradients.keys() == packed_gradients.keys()
    for name, gradient in packed_gradients.items():
        assert (sparse_gradients[name] - gradient).abs().max() < 1e-5, name


@needs_minkowski
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_smallest_convnextv2_agrees_to_four_digits(share):
    torch.manual_seed(0)
    network = use_float32_grn(timm.create_model("convnextv2_atto", in_chans=1, num_classes=0))
    for block in (block for stage in network.stages for block in stage.blocks):
        torch.nn.init.normal_(block.mlp.grn.weight)
    inputs = random_input(2, 4, 5, share, seed=0)
    packed, packed_gradients = output_and_gradients(network, PackedEncoder(network), *inputs)
    sparse, sparse_gradients = output_and_gradients(network, MinkowskiEncoder(network), *inputs)
    assert (sparse - packed).abs().max() < 1e-4
    for name, gradient in packed_gradients.items():
        assert (sparse_gradients[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-7, name


@needs_minkowski
def test_the_parameters_are_timms_own_and_no_random_number_is_drawn():
    network = small_network(True, 0)
    state = torch.get_rng_state()
    encoder = MinkowskiEncoder(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert {id(p) for p in encoder.parameters()} == {id(p) for p in network.parameters()}
    assert encoder.state_dict().keys() == PackedEncoder(network).state_dict().keys()


@needs_minkowski
def test_drop_path_drops_whole_images():
    network = small_network(True, 0, drop_path_rate=0.5).train()
    inputs = random_input(4, 2, 2, 0.5, seed=0)
    torch.manual_seed(1)
    packed = PackedEncoder(network)(*inputs)
    torch.manual_seed(1)
    torch.testing.assert_close(MinkowskiEncoder(network)(*inputs), packed, atol=1e-5, rtol=0)


@needs_minkowski
def test_mixed_precision_leaves_it_in_float32():
    network = small_network(True, 0)
    inputs = random_input(2, 2, 2, 0.5, seed=0)
    exact = MinkowskiEncoder(network)(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = MinkowskiEncoder(network)(*inputs)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact)


@needs_minkowski
def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(InputError, match="ConvNeXt"):
        MinkowskiEncoder(timm.create_model("resnet18"))
    with pytest.raises(InputError, match="32 px"):
        MinkowskiEncoder(small_network(True, 0))(torch.zeros(1, 1, 48, 64), torch.zeros(1, 1, dtype=torch.int64))


def test_without_minkowskiengine_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)
    with pytest.raises(
        InputError, match=r"^MinkowskiEngine cannot be imported \(.*\): install it with `make minkowski`"
    ):
        MinkowskiEncoder(small_network(True, 0))


@pytest.mark.parametrize(
    "failure", ["raise OSError('libopenblas.so.0: cannot open\\n a second line')", "import numpy.no_such_part", "0 / 0"]
)
def test_an_ill_installed_one_is_told_in_one_line(tmp_path, monkeypatch, failure):
    (tmp_path / "MinkowskiEngine.py").write_text(f"from collections import Sequence\n{failure}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "MinkowskiEngine", raising=False)
    with pytest.raises(InputError, match="make minkowski") as error:
        MinkowskiEncoder(small_network(True, 0))
    assert "\n" not in str(error.value) and "Sequence" not in str(error.value)
