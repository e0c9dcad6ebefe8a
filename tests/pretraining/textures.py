"""Synthetic textures and a frozen nearest-neighbour test, to see whether pretraining has taught a network anything.

Stripes whose class is their orientation, or their spacing; all else about them is random, with much noise, so the
features of a random network do little.
"""

import hashlib
from collections.abc import Callable, Iterator
from itertools import count as count_from
from pathlib import Path

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sempre.data.crops import normalise_batch
from sempre.data.samplers import EpochSampler
from sempre.data.store import Store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.data.views import View, ViewDataset, collate_views
from sempre.models.encoders import feature_map

CLASSES = 4
SPACINGS = (5, 8, 13, 21)  # px
NEIGHBOURS = 5

Draw = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


def orientations(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images of each of four orientations, uint8 `[N, 128, 128]`, and their classes `[N]`, taking turns."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(CLASSES), count)
    angles = np.pi * labels / CLASSES + rng.normal(0, 0.05, len(labels))
    return np.stack(
        [_stripes(128, angle, rng.uniform(8, 24), rng, (80, 175), (15, 45), (5, 30)) for angle in angles]
    ), labels


def spacings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images of each of four spacings, uint8 `[N, 96, 96]`, and their classes `[N]`, taking turns."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(CLASSES), count)
    widths = np.take(SPACINGS, labels) * rng.uniform(0.9, 1.1, len(labels))
    return np.stack(
        [_stripes(96, rng.uniform(0, np.pi), width, rng, (118, 138), (50, 70), (10, 40)) for width in widths]
    ), labels


def spacing_store(folder: Path, count: int = 48) -> Store:
    """A store of `count` images of each of the four spacings."""
    with StoreWriter(folder / "spacings.h5", patches=0) as writer:
        for number, pixels in enumerate(spacings(count, seed=0)[0]):
            writer.append(StoredImage(f"{number}.png", hashlib.sha256(pixels).hexdigest(), 1, 1, pixels))
        writer.finish()
    return Store(folder / "spacings.h5")


def small_transformer() -> VisionTransformer:
    return VisionTransformer(
        img_size=48, patch_size=8, in_chans=1, num_classes=0, embed_dim=96, depth=2, num_heads=3, dynamic_img_size=True
    )


def view_batches(store: Store, groups: dict[str, tuple[View, int]], batch: int, steps: int) -> Iterator[dict]:
    """`steps` batches of views, epoch after epoch."""
    dataset = ViewDataset(store, range(len(store)), groups, field=96)
    sampler = EpochSampler(len(dataset), batch)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_views)
    done = 0
    for epoch in count_from():
        sampler.set_epoch(epoch, 0)
        for views in loader:
            yield views
            done += 1
            if done == steps:
                return


def knn_accuracy(network: nn.Module, draw: Draw) -> float:
    """Share of 160 new textures whose five nearest of 240 others, by the cosine of pooled features, vote rightly."""
    known, known_labels = draw(60, 1)
    asked, asked_labels = draw(40, 2)
    similarity = _embed(network, asked) @ _embed(network, known).T
    nearest = similarity.topk(NEIGHBOURS, dim=1).indices.numpy()
    votes = (known_labels[nearest][:, :, None] == np.arange(CLASSES)).sum(1)
    return float((votes.argmax(1) == asked_labels).mean())


@torch.no_grad()
def _embed(network: nn.Module, pixels: np.ndarray) -> Tensor:
    """Unit vectors `[N, C]`: the means of the feature maps."""
    images = normalise_batch(torch.from_numpy(pixels).unsqueeze(1))
    network.eval()
    features = torch.cat([feature_map(network, batch).mean((2, 3)) for batch in images.split(40)])
    network.train()
    return nn.functional.normalize(features, dim=1)


def _stripes(
    side: int,
    angle: float,
    spacing: float,
    rng: np.random.Generator,
    brightness: tuple[float, float],
    contrast: tuple[float, float],
    noise: tuple[float, float],
) -> np.ndarray:
    """Stripes of random phase; of brightness, contrast and noise the least and the largest are given."""
    y, x = np.mgrid[:side, :side]
    phase = 2 * np.pi * ((x * np.cos(angle) + y * np.sin(angle)) / spacing + rng.uniform(0, 1))
    grain = rng.uniform(*noise) * rng.standard_normal(x.shape)
    return (rng.uniform(*brightness) + rng.uniform(*contrast) * np.sin(phase) + grain).clip(0, 255).astype(np.uint8)
