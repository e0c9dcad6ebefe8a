"""Which files are labels by their names: what segmenters and labelling programs write beside micrographs."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# Of a labelled set; the last ones are those of Pascal VOC.
IMAGE_FOLDERS = ("images", "samples", "jpegimages")
LABEL_FOLDERS = ("labels", "segmaps", "masks", "instances", "segmentationobject")
# Of cellpose, StarDist, ilastik ("Simple Segmentation"), QuPath, MorphoLibJ ("-lbl", "-watershed") and others.
WORDS = (
    r"(?:cp[-_]?|simple[-_ ]|multicut[-_ ])?(?:masks?|labels?|labell?ed|lbls?|seg(?:ms?|maps?|s|mentations?)?"
    r"|instances?|inst|annotations?|object[-_ ]?(?:ids|identities)|watershed|ground[-_]?truth|gt)(?:[-_ ]images?)?"
)
OF = r"(?:(?:count )?masks?|labels?|segmentation) of"  # ImageJ's "Count Masks of a.tif"
OUTLINES = r"(?:rois?|roiset)"  # ImageJ's, in .zip and .roi
GAP = r"[-_. ]+"
BEHIND = re.compile(rf"(.+?){GAP}{WORDS}$", re.IGNORECASE)
BEFORE = re.compile(rf"(?:{OF}|{WORDS}){GAP}(.+)$", re.IGNORECASE)
OUTLINES_BEHIND = re.compile(rf"(.+?){GAP}{OUTLINES}$", re.IGNORECASE)
OUTLINES_BEFORE = re.compile(rf"{OUTLINES}{GAP}(.+)$", re.IGNORECASE)
# Pictures of cellpose, ilastik, and sempre.
BY_PRODUCT = re.compile(
    r"(.+?)[-_](?:(?:outlines|flows|cp_output)(?:_cp_masks)?|cp_(?:outlines|flows)|probabilit(?:y|ies)|overlay)$",
    re.IGNORECASE,
)
PAGE = re.compile(r"(.+)_p\d+$")  # of a stack
IMAGE_WORDS = re.compile(rf"(.+?){GAP}(?:img|image|im|raw|micrograph)$", re.IGNORECASE)  # cellpose's sets: 000_img


def bare_stem(path: Path) -> str:
    """A file's name without its suffix, of OME-TIFF without both."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def stems_labelled(path: Path) -> list[str]:
    """The stems, in small letters, of the micrographs that a file of this name may hold the labels of; nearest first.

    `a_cp_masks.tif` may be that of `a` alone, `a_instance_mask.png` that of `a_instance` or of `a`. None are given for
    a name that says nothing of labels.
    """
    patterns = [BEHIND, BEFORE]
    if path.suffix.lower() in (".zip", ".roi"):
        patterns += [OUTLINES_BEHIND, OUTLINES_BEFORE]
    stem, found = bare_stem(path), []
    while match := next(filter(None, (pattern.fullmatch(stem) for pattern in patterns)), None):
        stem = match[1]
        found.append(bare_stem(Path(f"{stem}.x")).casefold())
        if page := PAGE.fullmatch(found[-1]):
            found.append(page[1])
    return found


def label_stem(path: Path) -> str:
    """A file's stem without all that says that it holds labels: `a` of `a_cp_masks.tif`, and of `a.ome.tif`."""
    patterns = [BEHIND, OUTLINES_BEHIND] if path.suffix.lower() in (".zip", ".roi") else [BEHIND]
    stem = bare_stem(path)
    while match := next(filter(None, (pattern.fullmatch(stem) for pattern in patterns)), None):
        stem = bare_stem(Path(f"{match[1]}.x"))
    return stem


def stems_of(micrograph: Path) -> list[str]:
    """The stems, in small letters, by which labels may call a micrograph; its own first."""
    stem = bare_stem(micrograph)
    named = IMAGE_WORDS.fullmatch(stem)
    # Results of micrographs that share a stem keep the suffix: a.png_instances.tif.
    stems = [micrograph.stem, stem, *([named[1]] if named else []), micrograph.name]
    return list(dict.fromkeys(name.casefold() for name in stems))


def labels_beside(files: Iterable[Path]) -> dict[Path, Path]:
    """The files that are labels by name, or pictures of a segmenter, and the micrograph among `files` of each.

    A micrograph of the same folder goes before one elsewhere. A file whose micrograph is not among `files` is none.
    """
    files = list(files)
    owners: dict[str, list[Path]] = {}
    for file in files:
        for stem in stems_of(file):
            owners.setdefault(stem, []).append(file)
    found = {}
    for file in files:
        stems = stems_labelled(file)
        if by_product := BY_PRODUCT.fullmatch(bare_stem(file)):
            stems.append(by_product[1].casefold())
        micrographs = [owner for stem in stems for owner in owners.get(stem, ()) if owner != file]
        if micrographs:
            found[file] = min(micrographs, key=lambda owner: owner.parent != file.parent)
    return found


def first_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the folders of these names in `folder` that is there, in capital or small letters."""
    if not folder.is_dir():
        return None
    there = {at.name.casefold(): at for at in sorted(folder.iterdir(), reverse=True) if at.is_dir()}
    return next((there[name] for name in names if name in there), None)


def labels_in_folders(files: Sequence[Path], top: Path) -> set[Path]:
    """The files that lie in folders of labels below `top`.

    Such a folder is called as in `LABEL_FOLDERS` and lies beside `images` or `samples`, or beside micrographs of which
    it holds the labels: each file in it is of one of their stems.
    """
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        for at in file.parents:
            if at == top or top not in at.parents:
                break
            if at.name.casefold() in LABEL_FOLDERS:
                by_folder.setdefault(at, []).append(file)
    found: set[Path] = set()
    for at, inside in by_folder.items():
        if first_folder(at.parent, IMAGE_FOLDERS) is not None:
            found.update(inside)
            continue
        beside = {stem for file in files if file.parent == at.parent for stem in stems_of(file)}
        if all(beside & {*stems_of(file), *stems_labelled(file)} for file in inside):
            found.update(inside)
    return found
