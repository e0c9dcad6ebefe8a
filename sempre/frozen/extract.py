"""Micrographs through a frozen encoder: into a file, each only once, or as vectors in one call."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from sempre.data.sources import Source, StoreSource, open_source
from sempre.errors import InputError
from sempre.frozen.embedding_file import Embedding, Embeddings, EmbeddingWriter
from sempre.frozen.encoder import Encoder, Grid, open_encoder
from sempre.frozen.pooling import pool
from sempre.images import percentile_range
from sempre.images.resize import resize_to
from sempre.processes import batches_of
from sempre.ranges import (
    CountOrAuto,
    CountOrZero,
    Index,
    Magnification,
    Percentiles,
    PositiveOrZero,
    Precision,
    check_ranges,
)
from sempre.training.accelerator import keep_freed_memory

LARGEST_INPUT = 1 << 26  # px; more than that would not fit into any memory as features
# At a time: what a CPU's caches hold (a batch of 16 at 224 px takes half as long again as four of 4), or fills a GPU.
CPU_PIXELS, GPU_PIXELS = 1 << 18, 1 << 24
WAITING = 128  # micrographs that wait for others of their shape, at most
# Values, and px of micrographs, between two writes: cells that wait lie between the memory that freed images leave, so
# that it does not serve for the next ones (253 slices of 1026x775 px in 16 channels took 4 GB).
COMMIT_CELLS = COMMIT_PIXELS = 1 << 24


@dataclass(kw_only=True)
class ExtractionOptions:
    layer: Index = -1  # ConvNeXtV2 stage or transformer block to read; -1: the last
    scale: Magnification = 1.0  # resize micrographs by this factor before embedding
    size: CountOrZero = 0  # or: resize the longer side to this, px; 0: keep it
    square: bool = False  # resize both sides to size=; this distorts shapes
    pixel_size_nm: PositiveOrZero = 0.0  # or: resize to this pixel size, nm; 0: do not
    batch: CountOrZero = 0  # micrographs embedded at once; 0: chosen for the device
    workers: CountOrAuto = -1  # processes that read micrographs; -1: none on a CPU, 8 on a GPU
    precision: Precision = "auto"  # number format; auto: bf16 if the GPU supports it, else float32
    percentiles: Percentiles = field(default_factory=list)  # percentiles made black and white; []: as in pretraining
    plain_percentiles: bool = False  # do not widen the grey range of sparse fields beyond the percentiles
    embeddings: str = ""  # cache folder for embeddings; empty: beside the store, else runs/embeddings


class Inputs(Dataset):
    """Micrographs at the size that they are embedded at, with the source's index and their grid.

    They are uint8 `[1, h, w]`, coloured ones `[3, h, w]`.
    """

    def __init__(self, source: Source, indices: list[int], options: ExtractionOptions, cell: int):
        self.source, self.indices, self.options, self.cell = source, indices, options, cell

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int) -> tuple[int, Grid, Tensor]:
        index = self.indices[item]
        pixels, pixel_size_nm = self.source.read(index)
        height, width = pixels.shape[:2]
        shape = input_shape(self.source.names[index], (height, width), pixel_size_nm, self.options)
        grid = Grid(height, width, *shape, self.cell)
        return index, grid, as_channels(resize_to(pixels, shape))


def as_channels(pixels: np.ndarray) -> Tensor:
    """Pixels `[h, w]` or `[h, w, 3]` as a network takes them, `[1, h, w]` or `[3, h, w]`."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.atleast_3d(pixels), -1, 0)))


def input_shape(
    name: str, shape: tuple[int, int], pixel_size_nm: float | None, options: ExtractionOptions
) -> tuple[int, int]:
    """Height and width in px that a micrograph of `shape` is embedded at; the aspect stays unless `square` is wanted.

    Raises:
        InputError: for a micrograph that must be brought to a pixel size and has none of its own, or becomes too large.
    """
    if options.square and 0 < options.size**2 <= LARGEST_INPUT:
        return options.size, options.size
    scale = options.scale
    if options.pixel_size_nm:
        if pixel_size_nm is None:
            raise InputError(f"{name} does not say its pixel size: leave pixel_size_nm away, or give size=")
        scale = pixel_size_nm / options.pixel_size_nm
    elif options.size:
        scale = options.size / max(shape)
    if shape[0] * shape[1] * scale**2 > LARGEST_INPUT:
        fits = int(max(shape) * sqrt(LARGEST_INPUT / (shape[0] * shape[1])))
        raise InputError(f"{name} would be embedded at {round(max(shape) * scale)} px: take size={fits} or less")
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def extract(source: Source, encoder: Encoder, options: ExtractionOptions) -> Embeddings:
    """The embeddings of all micrographs of `source`; only those that the file lacks are computed.

    Which micrographs share a batch depends on their order alone, so no number of workers changes a result.

    Raises:
        InputError: for options that cannot be, and as `check_percentiles`.
    """
    check(options)
    check_percentiles(source, encoder, options)
    settings = {
        "encoder_checksum": encoder.checksum,
        "cell": encoder.cell,
        "class_token": encoder.has_class_token,
        "width": encoder.width,
        "scale": options.scale,
        "size": options.size,
        "pixel_size_nm": options.pixel_size_nm,
        "preparation": source.preparation,
    }
    if options.square and options.size:
        settings["square"] = True
    path = embedding_path(source, settings, options.embeddings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with EmbeddingWriter(path, settings) as writer:
        first_of = {sha256: index for index, sha256 in reversed(list(enumerate(source.sha256s)))}
        missing = sorted(index for sha256, index in first_of.items() if sha256 not in writer.known)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        keep_freed_memory()
        encoder = encoder.to(device)
        gpu = device.type == "cuda"
        workers = options.workers if options.workers >= 0 else 8 * gpu
        loader = DataLoader(
            Inputs(source, missing, options, encoder.cell),
            batch_size=None,
            num_workers=min(workers, len(missing)),
            pin_memory=gpu,
        )
        waiting, values, seen = [], 0, 0
        with tqdm(total=len(missing), desc=f"embedding with {encoder.name}", unit="image", disable=not missing) as bar:
            pixels = GPU_PIXELS if gpu else CPU_PIXELS
            for batch in same_shape(batches_of(loader), options.batch, pixels):
                waiting.append(embed_batch(batch, source, encoder, options.precision))
                values += sum(embedding.cells.size for embedding in waiting[-1])
                seen += sum(image.numel() for *_, image in batch)
                if values >= COMMIT_CELLS or seen >= COMMIT_PIXELS:
                    write(writer, waiting)
                    waiting, values, seen = [], 0, 0
                bar.update(len(batch))
            write(writer, waiting)
    return Embeddings(path)


def embed_batch(
    batch: list[tuple[int, Grid, Tensor]], source: Source, encoder: Encoder, precision: str
) -> list[Embedding]:
    """The embeddings of micrographs of one shape."""
    device = encoder.device
    images = torch.stack([image for *_, image in batch]).to(device, non_blocking=True)
    half = precision == "bf16" or (precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())
    with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
        features = encoder(images)
    cells = features.cells.cpu().numpy()
    tokens = [None] * len(batch) if features.class_token is None else features.class_token.cpu().numpy()
    return [
        Embedding(source.sha256s[index], grid, cells[position], tokens[position])
        for position, (index, grid, _) in enumerate(batch)
    ]


def same_shape(
    items: Iterable[tuple[int, Grid, Tensor]], batch: int, pixels: int
) -> Iterator[list[tuple[int, Grid, Tensor]]]:
    """Batches of items of one shape: `batch` of them or, where that is 0, about `pixels` px.

    Their order, and which share a batch, depend on the order of the items alone.
    """
    waiting: dict[tuple[int, ...], list] = {}
    for item in items:
        shape = tuple(item[-1].shape)
        waiting.setdefault(shape, []).append(item)
        if len(waiting[shape]) >= (batch or pixels // item[-1].numel()):
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= WAITING:
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


def file_percentiles(options: ExtractionOptions, encoder: Encoder | None) -> tuple[float, float]:
    """The percentiles to normalise files by: those given, else those of the backbone's pretraining, else 1 and 99.

    Raises:
        InputError: for those given that are no range.
    """
    return percentile_range(options.percentiles or (encoder and encoder.percentiles) or (1.0, 99.0))


def check_percentiles(source: Source, encoder: Encoder | None, options: ExtractionOptions) -> None:
    """Whether the source was normalised as was asked for, or as the micrographs of the backbone's pretraining.

    A backbone that does not say how, such as DINOv2, takes every source, and so does no backbone.

    Raises:
        InputError: when not.
    """
    found = source.preparation["percentiles"]
    low, high = (f"{value:g}" for value in found)
    if options.percentiles and tuple(options.percentiles) != found:
        raise InputError(
            f"{source.path} was normalised by the percentiles {low} and {high}, which cannot be changed to "
            f"percentiles={options.percentiles}: leave them away, or prepare the store anew"
        )
    if options.plain_percentiles and not source.preparation.get("plain_percentiles", False):
        raise InputError(
            f"{source.path} was normalised by percentiles that were widened in sparse fields: prepare it with "
            "plain_percentiles=true, or leave that away here"
        )
    if encoder is not None and not options.percentiles and encoder.percentiles not in (None, found):
        own = " and ".join(f"{value:g}" for value in encoder.percentiles)
        raise InputError(
            f"{source.path} was normalised by the percentiles {low} and {high}, and what {encoder.name} was pretrained "
            f"on by {own}: prepare the store alike, or take it as it is with percentiles=[{low},{high}]"
        )


def write(writer: EmbeddingWriter, batches: list[list[Embedding]]) -> None:
    for batch in batches:
        writer.append(batch)


def check(options: ExtractionOptions) -> None:
    """Whether the options can be, and agree.

    Raises:
        InputError: when not.
    """
    check_ranges(options)
    given = {name: getattr(options, name) for name in ("scale", "size", "pixel_size_nm")}
    if (options.scale != 1) + bool(options.size) + bool(options.pixel_size_nm) > 1:
        raise InputError(f"{' and '.join(f'{name}={value:g}' for name, value in given.items())} disagree: choose one")


def embedding_path(source: Source, settings: dict, folder: str) -> Path:
    """The file for these settings: one an encoder, size and preparation."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    if folder:
        parent = Path(folder)
    elif isinstance(source, StoreSource):
        parent = source.path.with_suffix(".embeddings")
    else:
        parent = Path("runs/embeddings")
    return parent / f"{digest[:16]}.h5"


def embed(
    images: str | Path, backbone: str | Path, pooling: str = "mean", **options: Any
) -> tuple[list[str], np.ndarray]:
    """One vector of a frozen backbone for each micrograph; what was computed once is kept in `runs/embeddings`.

    Args:
        images: a folder of micrographs, or a store of `data/prepare.py`.
        backbone: a backbone folder, an official `.pth`, timm's name, `random:<timm's name>`, or `intensity`.
        pooling: of a micrograph's cells into its vector: mean, `top-<k>`, or class.
        options: as of `sempre.frozen.extract.ExtractionOptions`: `scale`, `size`, `layer`, `embeddings`, …

    Returns:
        The micrographs' names, and their vectors float32 `[N, C]` in the same order.

    Raises:
        InputError: for images, a backbone, a pooling or options that cannot be.
    """
    chosen = ExtractionOptions(**options)
    encoder = open_encoder(str(backbone), layer=chosen.layer)
    source = open_source(images, file_percentiles(chosen, encoder), plain=chosen.plain_percentiles)
    embeddings = extract(source, encoder, chosen)
    return list(source.names), np.stack([pool(embeddings[sha256], pooling) for sha256 in source.sha256s])
