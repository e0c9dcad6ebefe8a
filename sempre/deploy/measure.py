"""Measure label images that were made or corrected elsewhere: no model is involved."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from sempre.deploy.formats import result_paths
from sempre.deploy.inputs import Source, expand, name_results
from sempre.deploy.overlay import write_overlay
from sempre.deploy.sample_statistics import Table, instrument, write_statistics
from sempre.deploy.segmenter import Segmentation
from sempre.deploy.summary import Summary, summarise
from sempre.errors import InputError, one_line
from sempre.files import files_below
from sempre.images import MICROGRAPH_SUFFIXES, PixelSize, field_rows, read_labels, read_micrograph
from sempre.images.label_names import IMAGE_FOLDERS, LABEL_FOLDERS, first_folder, stems_labelled, stems_of
from sempre.segmentation.particles import measure_particles, write_csv
from sempre.sizes.analysis import Choices

LABEL_SUFFIXES = (".tif", ".tiff", ".png", ".bmp", ".npy")


@dataclass(frozen=True)
class MeasureOptions:
    """Where results go, and how labels are read."""

    out: Path
    pixel_size: PixelSize | None = None  # wins over what micrographs say
    components: bool = False  # each piece of an id is a particle
    choices: Choices = field(default_factory=Choices)
    report: bool = False


def find_label_images(named: Iterable[Path], out: Path) -> list[Source]:
    """The label images that a command's arguments mean.

    A folder stands for the files below it that are labels by their names, or that lie in a folder of labels; where
    there are none, for every picture in it.

    Raises:
        InputError: where there are none.
    """
    sources: dict[Path, Source] = {}
    for given in named:
        for path in expand(given):
            if not path.exists():
                raise InputError(f"{path} does not exist: look at the name")
            found = [path]
            if path.is_dir():
                there = [file for file in files_below(path) if file.suffix.lower() in LABEL_SUFFIXES]
                there = [file for file in there if out.resolve() not in file.resolve().parents]
                by_name = [file for file in there if stems_labelled(file)]
                by_folder = [file for file in there if file.parent.name.casefold() in LABEL_FOLDERS]
                found = by_name or by_folder or there
            folder = path if path.is_dir() else path.parent
            for file in found:
                sources.setdefault(file.resolve(), Source(file, folder))
    if not sources:
        raise InputError(f"{', '.join(map(str, named))} holds no label images ({', '.join(LABEL_SUFFIXES)})")
    return list(sources.values())


def find_micrograph(labels: Path) -> Path | None:
    """The micrograph of a label image: by its stem, in its own folder or in one of images beside it; else None."""
    stems = [*stems_labelled(labels), labels.stem.casefold()]
    folders = [labels.parent]
    beside = first_folder(labels.parent.parent, IMAGE_FOLDERS)
    if labels.parent.name.casefold() in LABEL_FOLDERS and beside is not None:
        folders.append(beside)
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() not in MICROGRAPH_SUFFIXES or file == labels or stems_labelled(file):
                continue
            if set(stems_of(file)) & set(stems):
                return file
    return None


def measure_batch(sources: Sequence[Source], options: MeasureOptions) -> int:
    """Measure every label image and write the sample's statistics; the exit code: 1 if anything failed, else 0."""
    options.out.mkdir(parents=True, exist_ok=True)
    summary = Summary(options.out / "summary.csv")
    names = name_results(sources, summary.recorded())
    failures: dict[str, str] = {}
    for source, name in tqdm(list(zip(sources, names, strict=True)), unit="label image", disable=None):
        row = {"micrograph": str(PurePosixPath(name).parent / source.path.name), "results": name}
        row["file"] = str(source.path.resolve())
        try:
            row |= measure_labels(source.path, options.out / name, options)
        except (InputError, OSError, MemoryError) as error:
            row["error"] = failures[source.name] = one_line(error) or "it needs more memory than there is"
        summary.add(row)
    if unwritten := summary.close():
        failures[summary.path.name] = unwritten
    measured = [Table(row, options.out) for row in summary.rows.values()]
    whole = [table for table in measured if not table.row["error"]]
    for name, message in failures.items():
        print(f"error: {name}: {message}", file=sys.stderr)
    if whole:
        print(*write_statistics(options.out, {options.out.resolve().name: measured}, options.choices, options.report))
    particles = sum(int(table.row["particles"]) for table in whole)
    print(f"{particles} particles in {len(whole)} label images, {len(failures)} failed: {options.out}")
    return 1 if failures else 0


def measure_labels(path: Path, base: Path, options: MeasureOptions) -> dict[str, str]:
    """Measure a label image, write its table and, if its micrograph is there, its overlay; its row of the summary.

    Raises:
        InputError: for labels that cannot be read, or that are not of the micrograph's size.
        OSError: for a file that cannot be written.
    """
    labels = read_labels(path, components=options.components)
    ids, flat = np.unique(labels, return_inverse=True)
    labels = (flat.reshape(labels.shape) + (ids[0] > 0)).astype(np.int32)  # 1 to N, whatever the ids were
    found = find_micrograph(path)
    micrograph = None if found is None else read_micrograph(found)
    if micrograph is not None and micrograph.pixels.shape != labels.shape:
        (h, w), (height, width) = labels.shape, micrograph.pixels.shape
        raise InputError(f"{path} has {w} x {h} px, but its micrograph {found} has {width} x {height}: they must agree")
    size, source = options.pixel_size, "option" if options.pixel_size else ""
    if size is None and micrograph is not None and micrograph.pixel_size is not None:
        size, source = micrograph.pixel_size, micrograph.pixel_size_source
    pixels = None if micrograph is None else micrograph.pixels
    rows = None if pixels is None else field_rows(pixels)
    count = int(labels.max(initial=0))
    particles = measure_particles(labels, np.ones(count), size, rows, pixels) if count else []
    x, y = size or (None, None)
    base.parent.mkdir(parents=True, exist_ok=True)
    table, overlay = (result_paths(base, (name,))[0] for name in ("csv", "overlay"))
    write_csv(table, particles, size)
    if pixels is not None:
        write_overlay(overlay, pixels, labels, x)
    top, bottom = rows or (0, len(labels))
    return summarise(Segmentation(labels, particles, x, [], y), labels.size) | {
        "pixel_size_source": source,
        "field_height_px": str(bottom - top),
        "instrument": "" if micrograph is None else instrument(micrograph.metadata),
        "model": "labels made elsewhere",
        "pages_left_out": "0",
    }
