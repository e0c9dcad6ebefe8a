"""The objective of DenseCL: two views of one place agree as a whole, and cell by cell.

Wang et al., "Dense contrastive learning for self-supervised visual pre-training", CVPR 2021, with lightly's heads.
"""

from copy import deepcopy

import torch
from lightly.models.modules import DenseCLProjectionHead
from lightly.models.utils import deactivate_requires_grad, select_most_similar, update_momentum
from torch import Tensor, distributed, nn
from torch.nn import functional

from sempre.models.encoders import feature_map
from sempre.models.timm_networks import use_float32_grn

NOBODY = -1  # the image of a key that is of none


class DenseCL(nn.Module):
    """A query encoder that learns, and a key encoder that follows it as a moving average.

    `forward(views [B, 2, channels, H, W], sample [B])` gives `{"loss", "global_loss", "dense_loss"}`. The first view is
    the query, the second the key; `sample` says which image they are of, so that no earlier key of the same image that
    is still in the banks is a query's negative.

    A training step is: forward and backward (of one batch or of several parts of it), the optimiser's step, then
    `follow()`. So all parts, and all processes, meet the same negatives. In evaluation nothing is enqueued, so that the
    losses on the same views compare.

    No part has batch statistics, through which a query could recognise its key: the keys need not be shuffled over
    processes as MoCo's are.

    Args:
        network: headless timm ConvNeXtV2 or vision transformer.
        negatives: keys of earlier images that each bank remembers.
        projection: numbers of hidden and of output channels of the projection heads.
        dense_weight: share of the dense loss, lambda in the paper.
        temperature: of the softmax over positive and negatives.
        momentum: share that the key encoder keeps of itself in a step.
        batch: samples of a step over all processes; 0 where each process has as many of them as the others.
    """

    def __init__(
        self,
        network: nn.Module,
        negatives: int = 65536,
        projection: tuple[int, int] = (2048, 128),
        dense_weight: float = 0.5,
        temperature: float = 0.2,
        momentum: float = 0.999,
        batch: int = 0,
    ):
        super().__init__()
        self.query = ProjectedEncoder(use_float32_grn(network), *projection)
        self.key = deepcopy(self.query)
        deactivate_requires_grad(self.key)
        self.global_bank, self.dense_bank = Bank(negatives, projection[1]), Bank(negatives, projection[1])
        self.dense_weight, self.temperature, self.momentum = dense_weight, temperature, momentum
        self.batch = batch
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []  # keys, dense keys and samples of the step's parts

    def follow(self) -> None:
        """After the optimiser's step: the key encoder follows the query encoder, the step's keys go into the banks.

        They are those of all parts and processes; the dense ones are pooled, one an image.
        """
        update_momentum(self.query, self.key, self.momentum)
        if self.waiting:
            keys, dense_keys, sample = (
                of_all_processes(torch.cat(parts), self.batch) for parts in zip(*self.waiting, strict=True)
            )
            self.global_bank.add(keys, sample)
            self.dense_bank.add(dense_keys, sample)
        self.waiting = []

    def forward(self, views: Tensor, sample: Tensor | None = None) -> dict[str, Tensor]:
        if sample is None:
            sample = torch.full((len(views),), NOBODY, device=views.device)
        query_view, key_view = views.unbind(1)
        query_cells, query, query_dense = self.query(query_view)
        with torch.no_grad():
            key_cells, key, key_dense = self.key(key_view)
        query, key = query.float(), key.float()
        query_dense, key_dense = query_dense.float(), key_dense.float()
        # Differences between near vectors, times 1 / temperature, are lost in bfloat16.
        with torch.autocast(views.device.type, enabled=False):
            # Each cell's positive is the cell of the other view whose features resemble its own the most.
            positives = select_most_similar(query_cells.detach().float(), key_cells.float(), key_dense)
            dense_loss = info_nce(query_dense, positives, self.dense_bank, sample, self.temperature)
            global_loss = info_nce(query[:, None], key[:, None], self.global_bank, sample, self.temperature)
        if self.training:
            self.waiting.append((key, key_dense.mean(1), sample))
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


class Bank(nn.Module):
    """The keys `[negatives, D]` of the newest images, of length one, and which images they are of, int64 `[negatives]`.

    At first they are random and nobody's. They belong to the model's state, or a resumed run would start from other
    negatives. Where the next keys go is counted on the device, so that nobody waits for it.
    """

    keys: Tensor
    sample: Tensor
    oldest: Tensor

    def __init__(self, negatives: int, channels: int):
        super().__init__()
        self.register_buffer("keys", functional.normalize(torch.randn(negatives, channels), dim=1))
        self.register_buffer("sample", torch.full((negatives,), NOBODY))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, keys: Tensor, sample: Tensor) -> None:
        """Put keys `[B, D]` of the images `sample [B]` in the place of the oldest; of too many the last ones remain."""
        size = len(self.keys)
        keys, sample = functional.normalize(keys[-size:], dim=1), sample[-size:]
        rows = (self.oldest + torch.arange(len(keys), device=keys.device)) % size
        self.keys.index_copy_(0, rows, keys)
        self.sample.index_copy_(0, rows, sample)
        self.oldest.add_(len(keys)).remainder_(size)


def info_nce(query: Tensor, positive: Tensor, bank: Bank, sample: Tensor, temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al., 2018): the mean cross-entropy of telling positives from the bank's keys by cosine.

    Args:
        query, positive: `[B, cells, D]`, float32.
        sample: images that the queries are of, `[B]`; the bank's keys of the same image are left out.
    """
    query, positive = functional.normalize(query, dim=2), functional.normalize(positive, dim=2)
    likeness = (query * positive).sum(2, keepdim=True)
    own = (bank.sample == sample[:, None]) & (sample[:, None] != NOBODY)  # [B, negatives]
    unlikeness = (query @ bank.keys.T.clone()).masked_fill_(own[:, None], -torch.inf)
    logits = torch.cat([likeness, unlikeness], dim=2).flatten(0, 1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def of_all_processes(rows: Tensor, batch: int = 0) -> Tensor:
    """Rows `[B, …]` of every process, in the order of the batch, of which each process holds every so many-th.

    Args:
        batch: rows of all processes together, of which some processes may hold one fewer than others; 0 where all hold
            as many.
    """
    if not distributed.is_initialized():
        return rows
    ranks = distributed.get_world_size()
    most = -(-batch // ranks) if batch else len(rows)
    if len(rows) < most:  # what is gathered has one shape; the row that is made up is the batch's last and is cut off
        rows = torch.cat([rows, rows[-1:]])
    parts = [torch.empty_like(rows) for _ in range(ranks)]
    distributed.all_gather(parts, rows.contiguous())
    gathered = torch.stack(parts, dim=1).flatten(0, 1)
    return gathered[:batch] if batch else gathered
