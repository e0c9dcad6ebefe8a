import numpy as np
import pytest
import torch

from sempre.models.unet_encoder import UNetEncoder
from sempre.pretraining.masked_autoencoders import SparK, hide, random_visible
from tests.pretraining.test_fcmae import crops, train
from tests.pretraining.textures import orientations


def small_spark(**options) -> SparK:
    torch.manual_seed(0)
    return SparK(UNetEncoder("unet_small"), decoder_width=32, **options)


@pytest.mark.parametrize("normalise_target", [False, True])
def test_hidden_pixels_are_what_is_to_be_predicted_and_nothing_else(normalise_target):
    model = small_spark(normalise_target=normalise_target).eval()
    images, visible = crops()
    predicted = model.decoder(model.encoder(images, visible), visible)
    unseen = hide(images, visible)
    torch.testing.assert_close(model.decoder(model.encoder(unseen, visible), visible), predicted, atol=0, rtol=0)
    assert not torch.isclose(model(images, visible)["loss"], model(unseen, visible)["loss"])


def test_every_weight_learns():
    model = small_spark()
    model(*crops())["loss"].backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_the_loss_is_float32_under_bf16():
    model, (images, visible) = small_spark(), crops()
    exact = model(images, visible)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(images, visible)["loss"]
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.05)


def test_four_images_are_learned_by_heart():
    images = torch.from_numpy(orientations(1, 0)[0])[:, None]
    visible = torch.from_numpy(np.stack([random_visible(16, 0.6, 0, 0, sample) for sample in range(4)]))
    losses = train(small_spark(), [(images, visible)] * 120, rate=5e-3)
    assert losses[-1] < losses[0] / 2
