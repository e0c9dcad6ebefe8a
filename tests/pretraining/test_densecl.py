"""DenseCL's losses are the paper's, its banks and keys behave, and it learns."""

import signal

import numpy as np
import pytest
import timm
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import DataLoader

from sempre.data.samplers import EpochSampler
from sempre.data.views import View, ViewDataset, collate_views
from sempre.models.encoders import feature_map
from sempre.pretraining.densecl import Bank, DenseCL
from sempre.training.accelerator import make_accelerator
from sempre.training.loop import Hooks, LoopOptions, Trainer
from sempre.training.optimisation import set_rate, steps_with_warmup
from tests.pretraining.textures import knn_accuracy, small_transformer, spacing_store, spacings, view_batches

TEMPERATURE = 0.2


def small_network() -> nn.Module:
    return timm.create_model("convnextv2_atto", in_chans=1, num_classes=0, depths=(1, 1, 2, 1), dims=(16, 32, 64, 128))


def small_densecl(network: nn.Module | None = None, negatives: int = 24, **options) -> DenseCL:
    torch.manual_seed(0)
    return DenseCL(network or small_network(), negatives, (32, 16), temperature=TEMPERATURE, **options)


def random_views(batch: int = 3, size: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 2, 1, size, size, generator=torch.Generator().manual_seed(seed))


def vision_transformer() -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224",
        in_chans=1,
        num_classes=0,
        img_size=96,
        dynamic_img_size=True,
        depth=2,
        embed_dim=48,
        num_heads=3,
    )


def trained(model: DenseCL) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def cross_entropy(query: np.ndarray, positive: np.ndarray, negatives: np.ndarray) -> float:
    """Equation 1 of the paper, by hand, for vectors of length one."""
    up, down = np.exp(query @ positive / TEMPERATURE), np.exp(negatives @ query / TEMPERATURE).sum()
    return -np.log(up / (up + down))


@pytest.mark.parametrize("make_network", [small_network, vision_transformer])
def test_the_losses_are_the_papers(make_network):
    model = small_densecl(make_network(), dense_weight=0.3)
    with torch.no_grad():  # so that the keys are not the queries' twins
        for parameter in model.key.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    banks = [bank.keys.double().numpy().copy() for bank in (model.global_bank, model.dense_bank)]
    views = random_views()
    cells, dense, whole = [], [], []  # each of the queries, then of the keys
    with torch.no_grad():
        for encoder, view in zip((model.query, model.key), views.unbind(1), strict=True):
            features = feature_map(encoder.network, view)
            rows = features.permute(0, 2, 3, 1).flatten(1, 2)
            cells.append(unit(rows.double().numpy()))
            dense.append(encoder.dense_head(rows).double().numpy())
            whole.append(encoder.global_head(features.mean((2, 3))).double().numpy())
    dense_terms, global_terms = [], []
    for image in range(len(views)):
        for place, query in enumerate(unit(dense[0][image])):
            partner = max(range(len(dense[1][image])), key=lambda j: cells[0][image, place] @ cells[1][image, j])
            dense_terms.append(cross_entropy(query, unit(dense[1][image, partner]), banks[1]))
        global_terms.append(cross_entropy(unit(whole[0][image]), unit(whole[1][image]), banks[0]))

    losses = model(views)
    assert losses["dense_loss"].item() == pytest.approx(np.mean(dense_terms), rel=1e-4)
    assert losses["global_loss"].item() == pytest.approx(np.mean(global_terms), rel=1e-4)
    assert losses["loss"].item() == pytest.approx(0.7 * np.mean(global_terms) + 0.3 * np.mean(dense_terms), rel=1e-4)
    model.follow()
    # What was enqueued: one vector of length one an image, of the keys; for the dense loss pooled.
    pooled = unit(dense[1].mean(1))
    np.testing.assert_allclose(model.dense_bank.keys[:3], pooled, atol=1e-5)
    np.testing.assert_allclose(model.global_bank.keys[:3], unit(whole[1]), atol=1e-5)
    np.testing.assert_array_equal(model.dense_bank.keys[3:].double(), banks[1][3:])


@pytest.mark.parametrize("make_network", [small_network, vision_transformer])
def test_all_that_learns_gets_a_gradient_and_the_keys_none(make_network):
    model = small_densecl(make_network())
    model(random_views())["loss"].backward()
    # With several processes, a weight that gets no gradient is an error.
    assert all(parameter.grad is not None for parameter in trained(model))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.key.parameters())
    assert {id(parameter) for parameter in trained(model)} <= {id(parameter) for parameter in model.query.parameters()}


def test_keys_follow_the_queries():
    model = small_densecl(momentum=0.9)
    before = [parameter.clone() for parameter in model.key.parameters()]
    with torch.no_grad():
        for parameter in model.query.parameters():
            parameter.add_(1.0)
    model.follow()
    for parameter, old in zip(model.key.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old + 0.1)


def test_evaluation_changes_nothing_and_repeats():
    model = small_densecl().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = [model(random_views())["loss"].item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_banks_are_part_of_the_state_and_depend_on_the_seed():
    model = small_densecl()
    model(random_views())
    model.follow()
    names = [name for name in model.state_dict() if "_bank." in name]
    assert len(names) == 6
    other = small_densecl()
    assert torch.equal(other.global_bank.keys[3:], model.global_bank.keys[3:])
    other.load_state_dict(model.state_dict())
    model.eval(), other.eval()
    views = random_views(seed=1)
    assert model(views)["loss"].item() == other(views)["loss"].item()


@pytest.mark.parametrize("batch", [3, 4, 30])
def test_a_bank_of_any_size_ends_up_full_of_keys(batch):
    bank = Bank(10, 4)
    for number in range(8):
        bank.add(torch.full((batch, 4), float(number + 1)), torch.full((batch,), number))
    assert torch.equal(bank.keys, torch.full((10, 4), 0.5))
    assert bank.sample.tolist().count(7) == min(batch, 10), "the newest are all there"


def test_a_query_never_meets_its_own_image():
    model, views = small_densecl(negatives=8), random_views()
    for _ in range(3):  # the banks fill with these three images
        model(views, torch.tensor([4, 5, 6]))
        model.follow()
    model.eval()
    keys = model.global_bank.keys.double().numpy()
    with torch.no_grad():
        query, key = model.query(views[:, 0])[1].double().numpy(), model.key(views[:, 1])[1].double().numpy()
    for known, images in ((True, [4, 5, 6]), (False, [7, 8, 9])):
        losses = []
        for image in range(3):
            others = model.global_bank.sample.numpy() != images[image]
            assert others.all() != known
            losses.append(cross_entropy(unit(query[image]), unit(key[image]), keys[others]))
        found = model(views, torch.tensor(images))["global_loss"].item()
        assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_bfloat16_agrees_with_float32():
    model, views = small_densecl().eval(), random_views()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model(views)
    for name, value in model(views).items():
        assert half[name].dtype == torch.float32
        assert half[name].item() == pytest.approx(value.item(), rel=0.02)


def gratings() -> torch.Tensor:
    """Two views, shifted, of each of four gratings: `[4, 2, 1, 64, 64]`."""
    x = torch.arange(64.0).expand(64, 64)
    waves = [[torch.sin(2 * torch.pi * x / period + shift) for shift in (0.1, 1.1)] for period in (4, 8, 16, 32)]
    return 2 * torch.stack([torch.stack(pair) for pair in waves]).sign().unsqueeze(2)


def test_training_on_four_images_lowers_the_loss_tenfold():
    # Two images a step and two negatives: the bank always holds the keys of the other two.
    model, views = small_densecl(negatives=2, momentum=0.9), gratings()
    optimizer = torch.optim.AdamW(trained(model), lr=3e-3)
    losses = []
    for step in range(48):
        loss = model(views[:2] if step % 2 else views[2:])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.follow()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(np.log(3), abs=0.2)  # nothing is told apart yet; at first the bank was random
    assert max(losses[-2:]) < 0.1 * losses[1]


def texture_loader(store, batch: int) -> DataLoader:
    groups = {"views": (View(64, scale=(0.4, 0.8)), 2)}
    dataset = ViewDataset(store, range(len(store)), groups, field=96)
    return DataLoader(dataset, batch_sampler=EpochSampler(len(dataset), batch), collate_fn=collate_views)


def train(folder, store, stop_at: int = -1) -> DenseCL:
    """Two epochs of six steps, or as far as the step at which a signal comes."""
    AcceleratorState._reset_state(reset_partial_state=True)
    model = small_densecl(momentum=0.9)

    def before_step(model: DenseCL, step: int) -> None:
        if step == stop_at:
            signal.raise_signal(signal.SIGUSR1)

    optimizer = torch.optim.SGD(trained(model), lr=0.1, momentum=0.9)
    optimizer.register_step_post_hook(lambda *_: model.follow())
    Trainer(
        model,
        optimizer,
        texture_loader(store, batch=2),
        lambda step: steps_with_warmup(step, 12, 3, 0.1),
        LoopOptions(epochs=2, seed=0, log_every=1),
        Hooks(before_step=before_step),
        accelerator=make_accelerator("float32"),
        folder=folder,
    ).train()
    return model


def test_a_resumed_run_ends_with_the_same_encoders_and_banks(tmp_path):
    store = spacing_store(tmp_path, count=3)
    whole = train(tmp_path / "whole", store).state_dict()
    stopped = train(tmp_path / "stopped", store, stop_at=7).state_dict()
    assert not torch.equal(stopped["global_bank.keys"], whole["global_bank.keys"])
    resumed = train(tmp_path / "stopped", store).state_dict()
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@pytest.mark.slow
def test_pretraining_tells_textures_better_than_a_random_network(tmp_path):
    torch.manual_seed(0)
    network = small_transformer()
    random = knn_accuracy(network, spacings)
    model = DenseCL(network, negatives=64, projection=(64, 32), momentum=0.99)
    optimizer = torch.optim.AdamW(trained(model))
    groups = {"views": (View(64, scale=(0.4, 0.8), brightness=0.1, contrast=0.2, blur=0.0, noise=0.0), 2)}
    for step, batch in enumerate(view_batches(spacing_store(tmp_path), groups, batch=16, steps=100)):
        set_rate(optimizer, 1e-3 * min(1, (step + 1) / 20))
        model(**batch)["loss"].backward()
        optimizer.step()
        model.follow()
        optimizer.zero_grad()
    assert knn_accuracy(network, spacings) > random + 0.3
