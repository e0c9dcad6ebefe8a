"""Which file holds the labels of which micrograph: by stem, by what labelling tools add to it, by a batch's summary."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from sempre.deploy.formats import SIZE_PLOT, result_paths
from sempre.errors import InputError, warn
from sempre.files import files_below
from sempre.images import find_micrographs
from sempre.images.label_names import (
    BY_PRODUCT,
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    bare_stem,
    first_folder,
    label_stem,
    labels_beside,
    stems_labelled,
    stems_of,
)

PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy")  # of label images; the first counts where there are two
SET_SUFFIXES = (".json", ".xml", ".csv")  # of files that hold the outlines of many micrographs
OUTLINE_SUFFIXES = (".json", ".zip", ".roi")  # of files that hold those of one
LABEL_SUFFIXES = (*PICTURE_SUFFIXES, *OUTLINE_SUFFIXES)
EXPORT_FOLDERS = ("", "annotations")  # of a labelled set, in which exports of labelling tools are looked for
DRIVE = re.compile(r"^[A-Za-z]:")
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before a name
NO_LABELS = ("scores", "summary", Path(SIZE_PLOT).stem)


class LabelFiles:
    """The files of labels in `folder`, for the micrographs of a set to be looked up in.

    With `images`, the micrographs, labels lie among these, and a picture is one by its name alone.
    """

    def __init__(self, folder: Path, images: Iterable[Path] = ()):
        self.folder, images = folder, set(images)
        self.by_stem: dict[str, list[tuple[int, Path]]] = {}  # by stem in small letters: how sure, and the file
        recorded = micrographs_of_results(folder)
        for file in files_below(folder):
            if file.suffix.lower() not in LABEL_SUFFIXES or file in images:
                continue
            stems = [file.stem.casefold(), bare_stem(file).casefold()]
            if images and file.suffix.lower() in PICTURE_SUFFIXES:
                stems = []
            stems += [*stems_labelled(file), *([recorded[file].casefold()] if file in recorded else [])]
            for sureness, stem in enumerate(dict.fromkeys(stems)):
                self.by_stem.setdefault(stem, []).append((sureness, file))

    def find(self, image: Path, below: Path) -> Path | None:
        """The labels of the micrograph at `image`, which lies at `below` under its folder; None where there are none.

        In the folder of its own name go before those elsewhere, pictures before outlines, its own stem before others.

        Raises:
            InputError: where two files may be meant.
        """
        ranked: dict[Path, tuple[int, ...]] = {}
        for position, stem in enumerate(stems_of(image)):
            for sureness, file in self.by_stem.get(stem, ()):
                outlined = file.suffix.lower() in OUTLINE_SUFFIXES
                elsewhere = (self.folder / below.parent, image.parent, self.folder)
                place = next((number for number, at in enumerate(elsewhere) if file.parent == at), len(elsewhere))
                ranked.setdefault(file, (place, outlined, sureness + position))
        if not ranked:
            return None
        best = min(ranked.values())
        found = [file for file, rank in ranked.items() if rank == best]
        if len({file.with_suffix("") for file in found}) > 1:
            raise InputError(f"both {found[0]} and {found[1]} may be the labels of {image.name}: move one of them away")
        return min(found, key=lambda file: LABEL_SUFFIXES.index(file.suffix.lower()))


def micrographs_of_results(folder: Path) -> dict[Path, str]:
    """The stem of the micrograph of each label image that the `summary.csv` of `sempre segment` in `folder` lists."""
    found = {}
    try:
        with (folder / "summary.csv").open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            for row in csv.DictReader(file):
                for path in result_paths(folder / row["results"], ("tif", "png", "rois")):
                    found[path] = Path(row["micrograph"]).stem
    except (OSError, KeyError, TypeError, csv.Error):  # none, or another program's
        return {}
    return found


def find_export(folder: Path) -> Path | None:
    """The one file in `folder` that holds the outlines of many micrographs, as labelling tools export them.

    Raises:
        InputError: where there are several.
    """
    files = [file for at in EXPORT_FOLDERS for file in sorted((folder / at).glob("*"))]
    files = [file for file in files if file.suffix.lower() in SET_SUFFIXES and file.is_file()]
    if files:
        from sempre.data.exports import holds_annotations  # here, for most sets have label images alone

        files = [file for file in files if holds_annotations(file)]
    if len(files) > 1:
        raise InputError(
            f"{folder} holds labels in both {files[0].name} and {files[1].name}: keep one, annotations.json"
        )
    return files[0] if files else None


def scored_files(folder: Path) -> dict[str, Path]:
    """The files of instances in `folder` by the micrographs' names: label images, and run lengths or outlines.

    A file's name is its stem without what says that it holds labels (`a_instances.tif` is of `a`). Of one name pictures
    go before others; micrographs that lie beside their labels are passed over, as are pictures of results.

    Raises:
        InputError: for a folder without any, and for two files of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if first_folder(folder, IMAGE_FOLDERS) is not None:
        folder = first_folder(folder, LABEL_FOLDERS) or folder
    files = [
        file for file in files_below(folder) if file.suffix.lower() in LABEL_SUFFIXES and file.stem not in NO_LABELS
    ]
    files = [file for file in files if not BY_PRODUCT.fullmatch(file.stem)]
    pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
    micrographs = {image for label, image in labels_beside(pictures).items() if label.parent == image.parent}
    if micrographs:
        warn(
            f"{len(micrographs)} files of {folder} have labels beside them and count as micrographs, {min(micrographs)}"
        )
    recorded = micrographs_of_results(folder)
    by_name: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: (file.suffix.lower() in OUTLINE_SUFFIXES, file)):
        if file in micrographs:
            continue
        name = recorded.get(file) or label_stem(file)
        first = by_name.setdefault(name, file)
        outlined = file.suffix.lower() in OUTLINE_SUFFIXES
        if first.parent != file.parent or (first.stem != file.stem and not outlined):
            raise InputError(f"{first} and {file} share the stem {name}: score one of them")
    if not by_name:
        raise InputError(f"{folder} holds no label images, run lengths or outlines ({', '.join(LABEL_SUFFIXES)})")
    return by_name


def find_listed(folder: Path, source: Path, entries: Mapping[str, dict]) -> dict[Path, Path | dict]:
    """The entry of each micrograph, by its path, of the `entries` that the file `source` has by file name.

    A name is a path below `folder/images`, `folder/samples` or `folder`. Where none lies there, the folders of the name
    are those of the computer on which it was annotated: the micrograph of the same name counts, of the same stem if
    there is none, where one alone has it, and this is said. Nothing outside of `folder` is looked at.

    Raises:
        InputError: for a micrograph that is missing, a name that several have, and two entries for one micrograph that
            `merge_entries` refuses.
    """
    images = first_folder(folder, IMAGE_FOLDERS)
    places = [place for place in (images, folder) if place is not None]
    exact = {name: _at_its_place(name, places) for name in entries}
    elsewhere: dict[str, Path] = {}
    missing = []
    if not all(exact.values()):
        try:
            there = find_micrographs(images or folder)
        except InputError:
            there = []
        for name in (name for name, path in exact.items() if path is None):
            path = _by_last_part(name, places, there, source)
            if path is None:
                missing.append(name)
            else:
                elsewhere[name] = path
    if missing:
        lack = f" ({len(missing)} of {len(entries)} lack)" if len(missing) > 1 else ""
        where = images or folder / IMAGE_FOLDERS[0]
        raise InputError(f"{source} lists {missing[0]}, which is neither in {where} nor beside it{lack}")
    found: dict[Path, Path | dict] = {}
    named: dict[Path, str] = {}
    for name, entry in entries.items():
        path = exact[name] or elsewhere[name]
        other = named.setdefault(path, name)
        if other == name:
            found[path] = entry
        elif name in elsewhere or other in elsewhere:
            raise InputError(f"{source} lists both {other} and {name}, but only {path} is there: add the other one")
        else:
            known = found[path]
            assert isinstance(known, dict)
            from sempre.data.coco import merge_entries  # here, for most sets have label images alone

            found[path] = merge_entries(source, name, known, entry)
    if elsewhere:
        name, path = next(iter(elsewhere.items()))
        warn(f"{source}: {len(elsewhere)} micrographs are found by the ends of their names, {name} as {path}")
    return found


def _at_its_place(name: str, places: list[Path]) -> Path | None:
    """The micrograph that lies at a path below one of the folders; names that lead out of them have none."""
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or ".." in parts or name.startswith("/") or DRIVE.match(name):
        return None
    for place in places:
        at = place
        for part in parts:
            if part != ".":
                at = at / part
        if at.is_file():
            return at
    return None


def _by_last_part(name: str, places: list[Path], there: list[Path], source: Path) -> Path | None:
    """The micrograph that the end of a name means: as many of its folders as are there, else its file's name alone."""
    for text in dict.fromkeys((name, unquote(name), unquote(name).partition("?")[0])):
        parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for first in range(len(parts)):
            path = _at_its_place("/".join(parts[first:]), places)
            if path is not None:
                return path
        last = parts[-1] if parts else ""
        for wanted in dict.fromkeys((last, UPLOAD.sub("", last))):
            for key in (lambda at: Path(at).name.casefold(), lambda at: Path(at).stem.casefold()):
                same = [path for path in there if key(path.name) == key(wanted)]
                if len(same) > 1:
                    raise InputError(f"{source} lists {name}, which may be {same[0]} or {same[1]}: name its folder")
                if same:
                    return same[0]
    return None


def labels_in(folder: Path, beside: bool) -> tuple[Path, Mapping[Path, Path | dict]] | None:
    """Where a folder's labels come from, and those of each micrograph; None for a folder without any.

    `beside` looks for labels beside the micrographs too, after `annotations.json`, a folder of labels and exports.
    """
    annotations = folder / "annotations.json"
    if annotations.is_file():
        return annotations, entries_of(folder, annotations)
    images = first_folder(folder, IMAGE_FOLDERS)
    if labels := first_folder(folder, LABEL_FOLDERS):
        return labels, _pairs(images or folder, labels)
    if export := find_export(folder):
        return export, entries_of(folder, export)
    if not beside:
        return None
    try:
        micrographs = find_micrographs(images or folder)
    except InputError:
        return None
    files = LabelFiles(images or folder, micrographs)
    if not any(files.find(image, image.relative_to(images or folder)) for image in micrographs):
        return None
    return images or folder, _pairs(images or folder, images or folder)


def entries_of(folder: Path, source: Path) -> dict[Path, Path | dict]:
    """Of each micrograph its entry in the export at `source`."""
    from sempre.data.exports import read_annotations  # here, for most sets have label images alone

    return find_listed(folder, source, read_annotations(source))


def _pairs(images: Path, labels: Path) -> dict[Path, Path | dict]:
    """The file of labels in the folder `labels` of each micrograph below `images`.

    Raises:
        InputError: for a folder without micrographs, and a micrograph without labels.
    """
    if images == labels.parent and not any(file.is_file() for file in images.iterdir()):
        images = images / IMAGE_FOLDERS[0]
    micrographs = find_micrographs(images)
    files = LabelFiles(labels, micrographs if images == labels else ())
    found: dict[Path, Path | dict] = {}
    for image in micrographs:
        file = files.find(image, image.relative_to(images))
        if file is None:
            from sempre.data.boxes import BOX_SUFFIXES, refuse_boxes  # here, for few sets are refused

            refuse_boxes(place / f"{image.stem}{suffix}" for place in (labels, image.parent) for suffix in BOX_SUFFIXES)
            raise InputError(
                f"{labels} has no labels for {image.stem}: add {image.stem}.png or {image.stem}.tif, or move the image "
                "away"
            )
        found[image] = file
    return found
