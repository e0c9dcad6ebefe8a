"""What a masked autoencoder saw and what it made of it, side by side."""

from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils import broadcast, send_to_device
from torch import Tensor
from torch.utils.data import DataLoader

from sempre.data.feeding.datasets import CropDataset, normalise_batch
from sempre.images import to_uint8
from sempre.images.normalise import MEAN, STD
from sempre.pretraining.collapse import feature_statistics
from sempre.pretraining.masked_autoencoder import MaskedAutoencoder, hide
from sempre.training.pretraining_run import PretrainingRun
from sempre.training.runs.logging import RunLog

GAP = 4  # px between panels
WATCHED = 64  # validation crops whose features are watched for collapse


@torch.no_grad()
def validate_reconstruction(
    model: MaskedAutoencoder,
    log: RunLog,
    step: int,
    *,
    run: PretrainingRun,
    loader: DataLoader,
    crops: CropDataset,
    collate: Callable[[list], dict[str, Tensor]],
    panels: int,
) -> dict[str, float]:
    """A masked autoencoder's validation losses and `feature_statistics`; `panels` reconstructions go to the log.

    Args:
        loader: the validation side's batches.
        crops: its crops, of which the first are shown and watched.
        collate: a batch of crops with their masks, as `loader` makes it.
    """
    # Each process has running statistics of its own: those of the main one, which are exported, are what is validated.
    for buffer in model.buffers():
        broadcast(buffer)
    values = run.mean_losses(model, loader)
    if run.accelerator.is_main_process:
        first = [crops[0, sample] for sample in range(min(WATCHED, len(crops)))]
        batch = send_to_device(collate(first), run.accelerator.device)
        batch["image"] = normalise_batch(batch["image"])
        shown = {name: part[:panels] for name, part in batch.items()}
        log.picture(step, "reconstructions", reconstruction_panels(model, **shown))
        network = model.encoder.get_submodule("network")
        values |= feature_statistics(network, run.stop.watch(batch["image"].split(panels or 1)))
    return values


def reconstruction_panels(model: MaskedAutoencoder, image: Tensor, visible: Tensor) -> np.ndarray:
    """One row a micrograph: original, what was visible, reconstruction; uint8 `[B * (H + 4), 3 * (W + 4)]`.

    Args:
        image: normalised crops `[B, 1, H, W]`.
        visible: ids of their visible patches `[B, K]`.
    """
    panels = torch.cat([image, hide(image, visible), model.reconstruct(image, visible)], dim=1)
    grey = to_uint8(panels.cpu().numpy() * STD + MEAN)  # [B, 3, H, W]
    framed = np.pad(grey, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=255)
    rows, columns, height, width = framed.shape
    return framed.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
