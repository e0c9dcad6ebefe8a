"""The formats of bundles, weights, checkpoints, stores and of what users write by hand, and all that reads them."""

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image

from sempre.config import changed_keys, read_options
from sempre.data.labelled import LabelledSet
from sempre.data.shards import open_store
from sempre.deploy.segmenter import Segmenter
from sempre.frozen.embedding_file import Embeddings
from sempre.frozen.encoder import open_encoder
from sempre.frozen.prototypes import load_support, prototypes_of, read_clicks
from sempre.models.dense import load_dense, read_settings
from sempre.models.mask_rcnn import load_detector
from sempre.training.checkpointing import MANIFEST, OPTIMIZER, PROGRESS, WEIGHTS, load_checkpoint
from tests.fuzzing import model_seeds, picture_seeds
from tests.fuzzing.cases import Format
from tests.fuzzing.mutations import mutate_bytes, mutate_filled, mutate_json, mutate_safetensors, mutate_zip


@dataclass(kw_only=True)
class RecipeOptions:
    """Options of every type that recipes have."""

    name: str = "???"
    data: str = "???"
    epochs: int = 10
    rate: float = 1e-3
    percentiles: list[float] = field(default_factory=lambda: [1.0, 99.0])
    runs: list[str] = field(default_factory=list)
    seed: int = 0
    scale: float = 1.0
    flips: bool = False


def enter_bundle_description(path: Path) -> None:
    """As `sempre segment --model` reads it; a bundle that is taken segments."""
    model = path.with_name("model.onnx")
    if not model.is_file():
        model.write_bytes(model_seeds.graphs()[0])
    Segmenter(path.parent, threads=1).segment(picture_seeds.GREY, 2.5)


def enter_graph(path: Path) -> None:
    """A network that is not the one described, and in three of four cases one that is: then it is loaded and run."""
    content = path.read_bytes()
    description = json.loads(model_seeds.bundle_descriptions()[len(content) % 2])
    if zlib.crc32(content) % 4:
        description["sha256"] = hashlib.sha256(content).hexdigest()
    path.with_name("model.json").write_text(json.dumps(description))
    Segmenter(path.parent, threads=1).segment(picture_seeds.GREY, 2.5)


def enter_backbone(path: Path) -> None:
    """As evaluation and fine-tuning read it."""
    for name, seeds in (("backbone.json", model_seeds.backbone_details), ("backbone.safetensors", _backbone_weights)):
        if path.name != name and not path.with_name(name).is_file():
            path.with_name(name).write_bytes(seeds()[0])
    open_encoder(str(path.parent))


def enter_run(path: Path) -> None:
    """As tools/export_onnx.py and fine-tuning read it."""
    weights = path.with_name("model.safetensors")
    if not weights.is_file():
        weights.write_bytes(model_seeds.dense_weights())
    content = path.read_bytes()
    if b'"detector' in content:
        load_detector(path.parent)
    _, details = load_dense(path.parent)
    read_settings(details)


def enter_checkpoint(path: Path) -> None:
    """As a run that goes on reads it: a damaged file under its old checksum, and in three of four cases under its own.

    What is in `path.parent` beside the case is of another case, so the checkpoint has a folder below it.
    """
    content, whole = path.read_bytes(), model_seeds.checkpoint()
    last = path.parent / "checkpoints/last"
    last.mkdir(parents=True, exist_ok=True)
    for name, file in (whole | {path.name: content}).items():
        (last / name).write_bytes(file)
    if path.name != MANIFEST and zlib.crc32(content) % 4:
        manifest = json.loads(whole[MANIFEST])
        manifest["sha256"][path.name] = hashlib.sha256(content).hexdigest()
        (last / MANIFEST).write_text(json.dumps(manifest))
    load_checkpoint(model_seeds.training_state(), last.parent, Accelerator(cpu=True))


def enter_store(path: Path) -> None:
    """As pretraining and embedding read it."""
    store = open_store(path)
    try:
        _ = store.fingerprint, store.labels, store.split()
        for index in {0, len(store) - 1} if len(store) else ():
            store.file_of(index)
            store.read(index)
            height, width = int(store.entries.height[index]), int(store.entries.width[index])
            store.crop(index, height // 2, 0, height - height // 2, width)
    finally:
        store.close()


def enter_clicks(path: Path) -> None:
    """As evaluate/click.py reads it."""
    read_clicks(path)


def enter_prototypes(path: Path) -> None:
    """As evaluate/click.py reads it again."""
    prototypes_of(load_support(path, model_seeds.SETTINGS))


def enter_embeddings(path: Path) -> None:
    """As every evaluator reads it."""
    with Embeddings(path) as embeddings:
        if "a" * 64 in embeddings:
            embeddings["a" * 64]


def enter_split(path: Path) -> None:
    """As fine-tuning reads it."""
    _labelled_set(path.parent).split(split_file=path)


def enter_options(path: Path) -> None:
    """As every recipe reads it: a YAML file, or its lines as arguments; and as a run's own that is gone on with."""
    content = path.read_bytes()
    if len(content) % 2:
        options = read_options(RecipeOptions, [str(path), "name=run", "data=set"])
    else:
        lines = content.decode("utf-8", "replace").splitlines()
        options = read_options(RecipeOptions, [line for line in lines if line and not line.startswith("-")])
    changed_keys(options, path)


def _file_of_checkpoint(name: str) -> list[bytes]:
    return [model_seeds.checkpoint()[name]]


@cache
def _backbone_weights() -> list[bytes]:
    return model_seeds.backbone_weights()


@cache
def _labelled_set(parent: Path) -> LabelledSet:
    for name, pixels in (("images", picture_seeds.GREY), ("labels", picture_seeds.LABELS)):
        (parent / "set" / name).mkdir(parents=True)
        Image.fromarray(pixels.astype(np.uint8)).save(parent / f"set/{name}/1.png")
    return LabelledSet(parent / "set")


def _formats() -> list[Format]:
    seeds = model_seeds
    return [
        Format("bundle", "model.json", seeds.bundle_descriptions, mutate_json, enter_bundle_description),
        Format("onnx", "model.onnx", seeds.graphs, mutate_bytes, enter_graph),
        Format("backbone", "backbone.json", seeds.backbone_details, mutate_json, enter_backbone),
        Format("safetensors", "backbone.safetensors", seeds.backbone_weights, mutate_safetensors, enter_backbone),
        Format("run", "model.json", seeds.run_details, mutate_json, enter_run),
        *(
            Format(f"checkpoint_{name}", file, partial(_file_of_checkpoint, file), mutate, enter_checkpoint)
            for name, file, mutate in (
                ("weights", WEIGHTS, mutate_safetensors),
                ("optimizer", OPTIMIZER, mutate_zip),
                ("progress", PROGRESS, mutate_json),
                ("manifest", MANIFEST, mutate_json),
            )
        ),
        Format("store", ".h5", seeds.stores, mutate_filled, enter_store),
        Format("embeddings", ".h5", seeds.embedding_files, mutate_filled, enter_embeddings),
        Format("clicks", ".json", seeds.clicks, mutate_json, enter_clicks),
        Format("prototypes", ".safetensors", seeds.prototype_files, mutate_safetensors, enter_prototypes),
        Format("split", ".json", seeds.splits, mutate_bytes, enter_split),
        Format("options", ".yaml", seeds.options, mutate_bytes, enter_options),
    ]


FORMATS = {format.name: format for format in _formats()}
