"""What a masked autoencoder saw and what it made of it, side by side."""

import numpy as np
import torch
from torch import Tensor

from sempre.images import to_uint8
from sempre.images.normalise import MEAN, STD
from sempre.pretraining.fcmae import FCMAE, hide

GAP = 4  # px between panels


def reconstruction_panels(model: FCMAE, image: Tensor, visible: Tensor) -> np.ndarray:
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
