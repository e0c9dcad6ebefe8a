from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import timm
import torch
from torch import nn

from sempre.data.samplers import ORDER, generator
from sempre.models.packed import PATCH
from sempre.pretraining.masked_autoencoders import FCMAE, MaskedAutoencoder, hide, random_visible
from sempre.training.optimisation import cosine_with_warmup, set_rate
from tests.pretraining.textures import knn_accuracy, orientations


def small_fcmae(**options) -> FCMAE:
    torch.manual_seed(0)
    network = timm.create_model("convnextv2_atto", in_chans=1, num_classes=0, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    return FCMAE(network, decoder_width=32, **options)


def crops(batch: int = 2, rows: int = 3, columns: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 1, rows * PATCH, columns * PATCH, generator=generator)
    patches = rows * columns
    visible = [torch.from_numpy(random_visible(patches, 0.5, 0, 0, sample)) for sample in range(batch)]
    return images, torch.stack(visible)


@pytest.mark.parametrize("normalise_target", [False, True])
def test_the_loss_is_the_mean_squared_error_of_the_hidden_patches(normalise_target):
    model = small_fcmae(normalise_target=normalise_target)
    images, visible = crops()
    predicted = model.decoder(model.encoder(images, visible), visible).detach().numpy()
    errors = []
    for image, prediction, shown in zip(images[:, 0].numpy(), predicted, visible.tolist(), strict=True):
        for patch in set(range(9)) - set(shown):
            y, x = divmod(patch, 3)
            target = image[y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH].ravel()
            if normalise_target:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            errors.append(((prediction[patch] - target) ** 2).mean())
    assert model(images, visible)["loss"].item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_reconstructions_keep_what_was_visible():
    model = small_fcmae(normalise_target=True)
    images, visible = crops()
    shown = hide(torch.ones_like(images), visible).bool()
    painted = model.reconstruct(images, visible)
    assert torch.equal(painted[shown], images[shown])
    assert not torch.allclose(painted[~shown], images[~shown])


def train(model: MaskedAutoencoder, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], rate: float) -> list[float]:
    """The losses of a step on each batch of images and visible patches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95))
    losses = []
    for step, (images, visible) in enumerate(batches):
        set_rate(optimizer, cosine_with_warmup(step, 10**6, 20, rate))
        loss = model(images, visible)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.slow
def test_four_images_are_learned_by_heart():
    images = torch.from_numpy(orientations(1, 0)[0])[:, None]
    visible = torch.from_numpy(np.stack([random_visible(16, 0.5, 0, 0, sample) for sample in range(4)]))
    losses = train(small_fcmae(normalise_target=True), [(images, visible)] * 200, rate=5e-3)
    assert losses[-1] < losses[0] / 2


@pytest.mark.slow
def test_pretraining_tells_textures_better_than_a_random_network():
    torch.manual_seed(0)
    network = timm.create_model(
        "convnextv2_atto", in_chans=1, num_classes=0, depths=(1, 1, 2, 1), dims=(16, 32, 64, 128)
    )
    random = knn_accuracy(network, orientations)
    images = torch.from_numpy(orientations(48, 0)[0])[:, None]

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(100):
            chosen = generator(0, step, ORDER).integers(0, len(images), 16)
            visible = [random_visible(16, 0.5, 0, step, sample) for sample in range(16)]
            yield images[chosen], torch.from_numpy(np.stack(visible))

    train(FCMAE(network, decoder_width=128, normalise_target=True), batches(), rate=3e-3)
    assert knn_accuracy(network, orientations) > random + 0.15
