"""Segmentation by prototypes: cells that look like what was pointed at, and unlike what was pointed away from."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.cluster import KMeans

from sempre.embeddings.encoding.embedding_file import Embedding
from sempre.embeddings.segmentation.points import Clicks
from sempre.embeddings.segmentation.thresholds import threshold
from sempre.errors import InputError
from sempre.files import parse_json, whole_or_absent

SIZES = ("scale", "size", "pixel_size_nm")  # options of an extraction that change what a cell shows


@dataclass(frozen=True)
class Support:
    """Embeddings float32 of the cells that points lie in: `positive` `[P, C]` and `negative` `[Q, C]`.

    Few-shot learning calls the examples that prototypes are made of the support set (Snell et al., "Prototypical
    Networks", NeurIPS 2017).
    """

    positive: np.ndarray
    negative: np.ndarray


def support_of(embedding: Embedding, clicks: Clicks) -> Support:
    """The cells of one micrograph that its points lie in.

    Raises:
        InputError: for a point outside the micrograph.
    """
    cells = (embedding.cells[tuple(embedding.grid.cells_at(points).T)] for points in (clicks.positive, clicks.negative))
    return Support(*cells)


def normalise(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings `[..., C]` at length 1, float32; a zero vector stays one, and has the cosine 0 with all others."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return np.divide(embeddings, lengths, out=np.zeros(embeddings.shape, np.float32), where=lengths > 0)


def prototypes(embeddings: np.ndarray, count: int = 1, seed: int = 0) -> np.ndarray:
    """What embeddings `[N, C]` have in common, float32 `[count, C]` of length 1.

    One prototype is the mean of the normalised embeddings; several are the centres of a spherical k-means (Dhillon and
    Modha, Machine Learning 42, 2001; here k-means of normalised vectors, centres normalised), for what is sought may
    look in several ways. There are never more prototypes than different embeddings; of none there is none.

    Raises:
        InputError: for a count below 1.
    """
    if count < 1:
        raise InputError(f"prototypes={count} is too few: take at least 1")
    directions = normalise(embeddings)
    count = min(count, len(np.unique(directions, axis=0)))
    if count <= 1:
        return normalise(directions.mean(axis=0, keepdims=True)) if count else directions
    return normalise(KMeans(count, n_init=10, random_state=seed).fit(directions).cluster_centers_.astype(np.float32))


def score(cells: np.ndarray, positive: np.ndarray, negative: np.ndarray, weight: float = 0.8) -> np.ndarray:
    """Likeness of cells `[..., C]` to what is sought, float32 `[...]`.

    The largest cosine with the positive prototypes `[P, C]` less `weight` times the largest with the negative ones
    `[Q, C]`; without negative prototypes the former alone.
    """
    directions = normalise(cells)
    like = (directions @ positive.T).max(axis=-1)
    return like - weight * (directions @ negative.T).max(axis=-1) if len(negative) else like


@dataclass(frozen=True)
class Prototypes:
    """Prototypes `positive` `[K, C]` and `negative` `[L, C]`, how much the latter weigh, and the scores `[P]` and `[Q]`
    that they give to the cells they were made of.
    """

    positive: np.ndarray
    negative: np.ndarray
    weight: float
    at_positive: np.ndarray
    at_negative: np.ndarray

    def heat_map(self, embedding: Embedding) -> np.ndarray:
        """The score at every px of a micrograph, float32 `[H, W]`."""
        return embedding.grid.to_pixels(score(embedding.cells, self.positive, self.negative, self.weight))

    def mask(self, heat_map: np.ndarray, rule: str, percent: float = 10.0) -> np.ndarray:
        """The foreground bool `[H, W]` of a heat map, by one of the `sempre.embeddings.segmentation.thresholds.RULES`.

        Raises:
            InputError: as `threshold` does.
        """
        return heat_map > threshold(heat_map, rule, percent, self.at_positive, self.at_negative)


def prototypes_of(support: Support, count: int = 1, weight: float = 0.8, seed: int = 0) -> Prototypes:
    """At most `count` prototypes a class of a support set.

    Raises:
        InputError: for a support set without positive cells, a count below 1 or a negative weight.
    """
    if not len(support.positive):
        raise InputError("there are no positive points: prototypes need at least one on what is sought")
    if weight < 0:
        raise InputError(f"weight={weight:g} is negative: take 0 to leave negative prototypes out, or more")
    sides = support.positive, support.negative
    positive, negative = (prototypes(cells, count, seed) for cells in sides)
    return Prototypes(positive, negative, weight, *(score(cells, positive, negative, weight) for cells in sides))


def save_support(path: str | Path, support: Support, settings: dict) -> None:
    """Write a support set with the `encoder_checksum`, the `percentiles` and the `SIZES` of its embeddings' settings.

    The file is whole or absent.
    """
    kept = {name: settings[name] for name in ("encoder_checksum", "percentiles", *SIZES)}
    tensors = {"positive": support.positive, "negative": support.negative}
    with whole_or_absent(path) as partial:
        tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
        save_file(tensors, partial, {"settings": json.dumps(kept)})


def load_support(path: str | Path, settings: dict) -> Support:
    """A saved support set, to be used with embeddings of these settings.

    Raises:
        InputError: for a file that `save_support` did not write, or that is of another backbone or size.
    """
    try:
        with safe_open(path, "numpy") as file:
            saved = dict(parse_json(file.metadata()["settings"]))
            support = Support(file.get_tensor("positive"), file.get_tensor("negative"))
            sides = (support.positive, support.negative)
            if any(cells.ndim != 2 for cells in sides) or support.positive.shape[1] != support.negative.shape[1]:
                raise ValueError("the cells of both sorts do not agree")
            if not all(np.isfinite(cells).all() for cells in sides):
                raise ValueError("its cells are not finite")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{path} holds no prototypes ({error}): give clicks= to make them") from error
    if saved.get("encoder_checksum") != settings["encoder_checksum"]:
        raise InputError(f"{path} holds prototypes of another backbone or layer: give clicks= to make new ones")
    for name in ("percentiles", *SIZES):
        if saved.get(name) != settings[name]:
            raise InputError(
                f"{path} holds prototypes of {name}={saved.get(name)}, not {name}={settings[name]}: take the former, "
                "or give clicks= to make new ones"
            )
    return support
