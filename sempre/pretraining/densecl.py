"""The objective of DenseCL: two views of one place agree as a whole, and cell by cell.

Wang et al., "Dense contrastive learning for self-supervised visual pre-training", CVPR 2021, from lightly's parts.
"""

from copy import deepcopy

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import DenseCLProjectionHead
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import deactivate_requires_grad, select_most_similar, update_momentum
from torch import Tensor, nn

from sempre.models.features import feature_map
from sempre.models.grn import use_float32_grn


class DenseCL(nn.Module):
    """A query encoder that learns, and a key encoder that follows it as a moving average.

    `forward(views [B, 2, channels, H, W])` gives `{"loss", "global_loss", "dense_loss"}`. The first view is the query,
    the second the key. Call `update_keys` once before each step: in `forward` it would be called once for each part of
    a batch that is accumulated. In evaluation nothing is enqueued, so that the losses on the same views compare.

    No part has batch statistics, through which a query could recognise its key: the keys need not be shuffled over
    processes as MoCo's are.

    Args:
        network: headless timm ConvNeXtV2 or vision transformer.
        negatives: keys of earlier images that each bank remembers; fewer than there are training images, or the banks
            hold the query's own image, too.
        projection: numbers of hidden and of output channels of the projection heads.
        dense_weight: share of the dense loss, lambda in the paper.
        temperature: of the softmax over positive and negatives.
        momentum: share that the key encoder keeps of itself in a step.
    """

    def __init__(
        self,
        network: nn.Module,
        negatives: int = 65536,
        projection: tuple[int, int] = (2048, 128),
        dense_weight: float = 0.5,
        temperature: float = 0.2,
        momentum: float = 0.999,
    ):
        super().__init__()
        self.query = ProjectedEncoder(use_float32_grn(network), *projection)
        self.key = deepcopy(self.query)
        deactivate_requires_grad(self.key)
        self.global_loss = bank_loss(temperature, negatives, projection[1])
        self.dense_loss = bank_loss(temperature, negatives, projection[1])
        self.dense_weight, self.momentum = dense_weight, momentum

    def update_keys(self) -> None:
        """Move the key encoder towards the query encoder."""
        update_momentum(self.query, self.key, self.momentum)

    def forward(self, views: Tensor) -> dict[str, Tensor]:
        query_view, key_view = views.unbind(1)
        query_cells, query, query_dense = self.query(query_view)
        with torch.no_grad():
            key_cells, key, key_dense = self.key(key_view)
        # Differences between near vectors, times 1 / temperature, are lost in bfloat16.
        with torch.autocast(views.device.type, enabled=False):
            # Each cell's positive is the cell of the other view whose features resemble its own the most.
            positives = select_most_similar(query_cells.detach().float(), key_cells.float(), key_dense.float())
            dense_loss = self.dense_loss(query_dense.float().flatten(0, 1), positives.flatten(0, 1))
            global_loss = self.global_loss(query.float(), key.float())
            if self.training:
                self.global_loss.memory_bank.add(key)
                self.dense_loss.memory_bank.add(key_dense.mean(1))
        loss = (1 - self.dense_weight) * global_loss + self.dense_weight * dense_loss
        return {"loss": loss, "global_loss": global_loss, "dense_loss": dense_loss}


class ProjectedEncoder(nn.Module):
    """A network with the two projection heads; `forward(images [B, channels, H, W])` gives

    - its feature map as cells `[B, h*w, C]`,
    - the projection of their mean, `[B, D]` (of a vision transformer, too: the class token has no place in the map),
    - the projection of each cell, `[B, h*w, D]`.
    """

    def __init__(self, network: nn.Module, hidden: int, output: int):
        super().__init__()
        self.network = network
        # What follows the feature map takes no part in pretraining, but belongs to timm's network.
        for name in ("head", "fc_norm"):
            getattr(network, name, nn.Identity()).requires_grad_(False)
        self.global_head = DenseCLProjectionHead(network.num_features, hidden, output)
        self.dense_head = DenseCLProjectionHead(network.num_features, hidden, output)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cells = feature_map(self.network, images).flatten(2).transpose(1, 2)
        return cells, self.global_head(cells.mean(1)), self.dense_head(cells)


class Bank(MemoryBankModule):
    """lightly's memory bank `[negatives, D]`, gathered over processes, with two differences.

    It belongs to the model's state, or a resumed run would start from other negatives. And it is added to by `add`
    alone: the loss would enqueue every matched cell, where the paper's dense negatives are pooled, one a view. Of the
    batch that reaches its end the rest is dropped, so any size will do.
    """

    def __init__(self, negatives: int, channels: int):
        super().__init__((negatives, channels), gather_distributed=True)
        self.register_buffer("bank", self.bank)
        self.register_buffer("bank_ptr", self.bank_ptr)

    def forward(self, output: Tensor, labels: None = None, update: bool = False) -> tuple[Tensor, Tensor]:
        return super().forward(output)

    def add(self, keys: Tensor) -> None:
        """Put the keys `[B, D]` of all processes in the place of the oldest."""
        super().forward(nn.functional.normalize(keys.float(), dim=1), update=True)


def bank_loss(temperature: float, negatives: int, channels: int) -> NTXentLoss:
    """lightly's NT-Xent loss (InfoNCE), whose negatives are a `Bank`'s."""
    loss = NTXentLoss(temperature)
    loss.memory_bank = Bank(negatives, channels)
    return loss
