"""Which micrographs a command's arguments mean: files, patterns, folders; results of earlier runs are none."""

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tifffile
from PIL import Image

from sempre.deploy.batches.formats import PICTURES
from sempre.errors import InputError
from sempre.files import SOFTWARE
from sempre.images import MICROGRAPH_SUFFIXES
from sempre.images.reading.label_names import labels_beside
from sempre.images.reading.read import count_pages, find_micrographs_and_labels


@dataclass(frozen=True)
class Source:
    """A micrograph's file; `folder` is the folder named in which it was found, or its own if it was named itself.

    `page`, counted from 1, is the picture meant of a file that holds several; None leaves the choice to the reader.
    """

    path: Path
    folder: Path
    page: int | None = None

    @property
    def name(self) -> str:
        """What the micrograph is called in messages."""
        return self.path.name if self.page is None else f"{self.path.name}, page {self.page}"


@dataclass(frozen=True)
class Inputs:
    """The micrographs that are meant, each once; what is left out of what was named: the results of earlier runs, files
    that are labels of a micrograph by their name, and folders without any micrograph."""

    sources: list[Source]
    results: list[Path]
    empty: list[Path]
    labels: list[Path]


def find_inputs(images: Iterable[Path], out: Path) -> Inputs:
    """The micrographs that a command's arguments mean.

    A folder stands for every micrograph below it but those in `out`; a name with `*`, `?` or `[…]` that is no file's
    for the files and folders that it matches, as Windows leaves it to the programs to find them. Files that are labels
    by their name, such as `a_cp_masks.tif`, are left out where the micrograph `a` is meant too.

    Raises:
        InputError: when there is none, and for a folder of micrographs that is `out` itself.
    """
    sources: dict[Path, Source] = {}
    results: dict[Path, Path] = {}
    empty = []
    for image in (match for named in images for match in expand(named)):
        found, folder = [image], image.parent
        if image.is_dir():
            if image.resolve() == out.resolve():
                raise InputError(f"--out {out} is the folder of the micrographs: give another, or one below it")
            try:
                (found, beside), folder = find_micrographs_and_labels(image), image
                found += beside
            except InputError:  # an empty folder beside others stops none of them
                found = []
                empty.append(image)
            found = [path for path in found if out.resolve() not in path.resolve().parents]
        for path in found:
            resolved = path.resolve()
            if is_result(path):
                results[resolved] = path
            else:
                sources.setdefault(resolved, Source(path, folder))
    labels = labels_beside(source.path for source in sources.values())
    sources = {resolved: source for resolved, source in sources.items() if source.path not in labels}
    if not sources:
        but = f" but {len(results)} results of earlier runs" if results else f" but those in --out {out}"
        names = ", ".join(map(str, images))
        raise InputError(f"{names} holds no micrographs{'' if empty else but}: give their folder, or their names")
    return Inputs(list(sources.values()), list(results.values()), empty, list(labels))


def choose_pages(sources: Sequence[Source], pages: int | Literal["all"] | None) -> list[Source]:
    """The sources with the page that is meant of each, or one source for each page with "all".

    Files of one page stay as they are, unless another page of them is wanted: reading that will fail. So do files whose
    pages cannot be counted.
    """
    if pages is None:
        return list(sources)
    chosen = []
    for source in sources:
        try:
            there = count_pages(source.path)
        except InputError:  # reading it says so again
            there = 1
        numbers = range(1, there + 1) if pages == "all" else (pages,)
        chosen += [source] if there == 1 and pages in (1, "all") else [replace(source, page=one) for one in numbers]
    return chosen


def expand(named: Path) -> list[Path]:
    """The micrographs and folders that a pattern matches, sorted; the name itself if it is a file's or matches none."""
    if named.exists() or not glob.has_magic(str(named)):
        return [named]
    folder = glob.escape(str(named.parent)) if named.parent.is_dir() else str(named.parent)  # "run[1]" is no pattern
    pattern = str(Path(folder) / named.name)
    matches = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207 - pathlib's takes no absolute pattern
    return sorted(path for path in matches if path.suffix.lower() in MICROGRAPH_SUFFIXES or path.is_dir()) or [named]


def is_result(path: Path) -> bool:
    """Whether a picture is one that sempre made: by its name, and by what it says of its origin."""
    if not path.name.endswith(PICTURES):
        return False
    try:
        if path.suffix == ".tif":
            with tifffile.TiffFile(path) as file:
                made_by = file.pages.first.software
        else:
            with Image.open(path) as image:
                made_by = image.info.get("Software", "")
    except Exception:  # damaged files break the format libraries in every way there is, and are no results
        return False
    return str(made_by).startswith(SOFTWARE)
