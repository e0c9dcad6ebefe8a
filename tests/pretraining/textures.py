"""Synthetic textures and a frozen nearest-neighbour test, to see whether pretraining has taught a network anything.

Four classes: grains of two sizes, round or elongated. Orientation, brightness, contrast and noise are random, so the
features of a random network, which mostly tell how bright and contrasted an image is, do little.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sempre.data.datasets import normalise_batch
from sempre.data.store import Store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.models.features import feature_map

SIDE, GRATING_SIDE = 96, 128  # px
CLASSES = ((1.0, 1.0), (1.5, 3.0), (3.0, 1.0), (3.0, 3.0))  # size in px, elongation
NEIGHBOURS = 5


def textures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images of each class, uint8 `[N, SIDE, SIDE]`, and their classes `[N]`, the classes taking turns."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(CLASSES)), count)
    return np.stack([_texture(*CLASSES[label], rng) for label in labels]), labels


def texture_store(folder: Path, count: int = 48) -> Store:
    """A store of `count` textures of each class."""
    with StoreWriter(folder / "textures.h5", patches=0) as writer:
        for number, pixels in enumerate(textures(count, seed=0)[0]):
            writer.append(StoredImage(f"{number}.png", hashlib.sha256(pixels).hexdigest(), 1, 1, pixels))
        writer.finish()
    return Store(folder / "textures.h5")


def gratings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` stripes of each of four orientations, like `textures`; unlike there, a hidden part can be foretold."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(4), count)
    return np.stack([_grating(np.pi * label / 4, rng) for label in labels]), labels


def knn_accuracy(network: nn.Module, draw: Callable[[int, int], tuple[np.ndarray, np.ndarray]] = textures) -> float:
    """Share of 160 new textures whose five nearest of 240 others, by the cosine of pooled features, vote rightly."""
    known, known_labels = draw(60, 1)
    asked, asked_labels = draw(40, 2)
    similarity = _embed(network, asked) @ _embed(network, known).T
    nearest = similarity.topk(NEIGHBOURS, dim=1).indices.numpy()
    votes = (known_labels[nearest][:, :, None] == np.arange(len(CLASSES))).sum(1)
    return float((votes.argmax(1) == asked_labels).mean())


@torch.no_grad()
def _embed(network: nn.Module, pixels: np.ndarray) -> torch.Tensor:
    """Unit vectors `[N, C]`: the means of the feature maps."""
    images = normalise_batch(torch.from_numpy(pixels).unsqueeze(1))
    network.eval()
    features = torch.cat([feature_map(network, batch).mean((2, 3)) for batch in images.split(40)])
    return nn.functional.normalize(features, dim=1)


def _grating(angle: float, rng: np.random.Generator) -> np.ndarray:
    """Stripes of random spacing, phase, brightness, contrast and noise."""
    y, x = np.mgrid[:GRATING_SIDE, :GRATING_SIDE]
    angle += rng.normal(0, 0.05)
    phase = 2 * np.pi * ((x * np.cos(angle) + y * np.sin(angle)) / rng.uniform(8, 24) + rng.uniform(0, 1))
    noise = rng.uniform(5, 30) * rng.standard_normal(x.shape)
    return (rng.uniform(80, 175) + rng.uniform(15, 45) * np.sin(phase) + noise).clip(0, 255).astype(np.uint8)


def _texture(size: float, elongation: float, rng: np.random.Generator) -> np.ndarray:
    """White noise through an anisotropic gaussian, of random orientation, brightness, contrast and noise."""
    angle = rng.uniform(0, np.pi)
    v, u = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    widths = size * np.sqrt(elongation), size / np.sqrt(elongation)
    passed = np.exp(-2 * np.pi**2 * ((along * widths[0]) ** 2 + (across * widths[1]) ** 2))
    grains = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * passed).real
    grains *= rng.uniform(20, 50) / grains.std()
    noise = rng.uniform(0, 5) * rng.standard_normal((SIDE, SIDE))
    return (rng.uniform(80, 175) + grains + noise).clip(0, 255).astype(np.uint8)
