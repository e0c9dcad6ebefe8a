"""The formats of micrographs and of labels, and all that reads them in the base install and in training."""

import shutil
import zlib
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from PIL import Image

from sempre.data.boxes import read_boxes, refuse_boxes
from sempre.data.exports import holds_annotations, read_label_file
from sempre.data.labelled import LabelledSet
from sempre.deploy.formats import SUFFIXES
from sempre.deploy.inputs import Source, is_result
from sempre.deploy.micrograph_results import BatchOptions, segment_micrograph
from sempre.deploy.released import find_bundle
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from sempre.images import (
    crop_information_bar,
    draw_ellipses,
    percentile_normalise_to_uint8,
    read_labels,
    read_micrograph,
)
from sempre.images.label_images import read_instances
from sempre.images.volume import open_volume
from sempre.metrics import label_overlap, mask_overlap, score_sample
from tests.fuzzing import picture_seeds
from tests.fuzzing.cases import Format
from tests.fuzzing.mutations import mutate_bytes, mutate_head, mutate_json, mutate_png, mutate_tiff

SEGMENTED, MOST = 25, 1 << 14  # one case in so many is segmented, if it is of at most so many px


def enter_micrograph(path: Path) -> None:
    """As a batch, data/prepare.py and a volume's recipes read it; now and then all the way to the results."""
    is_result(path)
    pixels = read_micrograph(path).pixels
    percentile_normalise_to_uint8(crop_information_bar(pixels))
    if pixels.size <= MOST and zlib.crc32(path.read_bytes()) % SEGMENTED == 0:
        options = BatchOptions(path.parent / "out", tuple(SUFFIXES))
        segment_micrograph(Source(path, path.parent), options.out / "case", _segmenter(), options)
    volume = open_volume(path)
    volume.read(volume.slices - 1, volume.channels - 1)


def enter_labels(path: Path) -> None:
    """As tools/score.py and a labelled set read it."""
    labels = read_labels(path)
    score_sample(label_overlap(labels, labels))
    folder = _labelled_folder(path.parent)
    target = folder / f"labels/1{path.suffix}"
    shutil.copyfile(path, target)
    labelled = LabelledSet(folder)
    labelled.read(0)


def enter_coco(path: Path) -> None:
    """As a labelled set reads it."""
    folder = _labelled_folder(path.parent)
    Image.fromarray(picture_seeds.GREY).save(folder / "2.png")
    labelled = LabelledSet(folder, coco=path)
    for index in range(len(labelled)):
        labelled.read(index)


def enter_run_lengths(path: Path) -> None:
    """As tools/score.py reads it."""
    masks, _ = read_instances(path)
    score_sample(mask_overlap(list(masks), list(masks)))


def enter_outlines(path: Path) -> None:
    """As a labelled set reads the file of one micrograph, LabelMe's or ImageJ's, and tools/score.py both."""
    labels = read_label_file(path, picture_seeds.GREY.shape)
    with suppress(InputError):  # ROIs alone do not say how large their micrograph is
        labels = read_label_file(path, None)
    score_sample(label_overlap(labels[0], labels[0]))
    folder = _labelled_folder(path.parent)
    target = folder / f"labels/1{path.suffix}"
    shutil.copyfile(path, target)
    try:
        LabelledSet(folder).read(0)
    finally:
        target.unlink()


def enter_export(path: Path) -> None:
    """As a labelled set finds it in its folder, and reads all its micrographs."""
    holds_annotations(path)
    labelled = LabelledSet(_labelled_folder(path.parent), coco=path)
    for index in range(len(labelled)):
        labelled.read(index)


def enter_boxes(path: Path) -> None:
    """As data/boxes.py reads it, and as a labelled set refuses it."""
    draw_ellipses(read_boxes(path, picture_seeds.GREY.shape), picture_seeds.GREY.shape)
    with suppress(InputError):
        refuse_boxes([path])


def enter_sidecar(path: Path) -> None:
    """As it is looked for beside a micrograph."""
    picture = path.with_suffix(".png")
    if not picture.is_file():
        Image.fromarray(picture_seeds.GREY).save(picture)
    read_micrograph(picture)


@cache
def _segmenter() -> Segmenter:
    return Segmenter(find_bundle(None), threads=1)


@cache
def _labelled_folder(parent: Path) -> Path:
    """A labelled set of two pictures."""
    folder = parent / "set"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(picture_seeds.GREY).save(folder / "images/1.png")
    return folder


def _formats() -> list[Format]:
    seeds = picture_seeds
    return [
        Format("tiff", "_instances.tif", seeds.tiffs, mutate_tiff, enter_micrograph),
        Format("png", "_instances.png", seeds.pngs, mutate_png, enter_micrograph),
        Format("jpeg", ".jpg", seeds.jpegs, mutate_bytes, enter_micrograph),
        Format("bmp", ".bmp", seeds.bmps, partial(mutate_head, size=80), enter_micrograph),
        Format("hdf5", ".h5", seeds.hdf5s, mutate_bytes, enter_micrograph),
        Format("imaris", ".ims", seeds.imaris, mutate_bytes, enter_micrograph),
        Format("dm3", ".dm3", seeds.dm3s, mutate_bytes, enter_micrograph),
        Format("emd", ".emd", seeds.emds, mutate_bytes, enter_micrograph),
        Format("mrc", ".mrc", seeds.mrcs, partial(mutate_head, size=256), enter_micrograph),
        Format("ser", ".ser", seeds.sers, partial(mutate_head, size=160), enter_micrograph),
        Format("sidecar", ".txt", seeds.sidecars, mutate_bytes, enter_sidecar),
        Format("label_tiff", ".tif", seeds.label_tiffs, mutate_tiff, enter_labels),
        Format("label_png", ".png", seeds.label_pngs, mutate_png, enter_labels),
        Format("coco", ".json", seeds.cocos, mutate_json, enter_coco),
        Format("labelme", ".json", seeds.labelme, mutate_json, enter_outlines),
        Format("via", ".json", seeds.vias, mutate_json, enter_export),
        Format("via_table", ".csv", seeds.via_tables, mutate_bytes, enter_export),
        Format("cvat", ".xml", seeds.cvats, mutate_bytes, enter_export),
        Format("roi_zip", ".zip", seeds.roi_zips, mutate_bytes, enter_outlines),
        Format("roi", ".roi", seeds.rois, mutate_bytes, enter_outlines),
        Format("voc", ".xml", seeds.vocs, mutate_bytes, enter_boxes),
        Format("run_lengths", ".json", seeds.run_lengths, mutate_json, enter_run_lengths),
    ]


FORMATS = {format.name: format for format in _formats()}
