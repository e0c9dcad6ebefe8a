"""Which micrographs a command's arguments mean, and what their results are called."""

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import tifffile
from PIL import Image

from sempre.deploy.formats import PICTURES
from sempre.errors import InputError
from sempre.files import SOFTWARE
from sempre.images import MICROGRAPH_SUFFIXES
from sempre.images.label_names import labels_beside
from sempre.images.read import count_pages, find_micrographs_and_labels


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


def share_of(sources: Sequence[Source], shard: tuple[int, int] | None) -> list[Source]:
    """The k-th of n shares of the sources, `shard` = (k, n) with k from 1; all of them where it is None.

    A hash of a micrograph's path below the folder that was named decides. So it is the same on every computer that has
    the folder, and micrographs that are added later move no other.
    """
    if shard is None:
        return list(sources)
    number, count = shard
    return [source for source in sources if _hash(source) % count == number - 1]


def _hash(source: Source) -> int:
    below = source.path.relative_to(source.folder).as_posix()
    return int.from_bytes(hashlib.sha256(os.fsencode(below)).digest()[:8], "big")


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


RESERVED = re.compile(r'[<>:"|?*\\\x00-\x1f]')  # in names on Windows, where results may be copied to
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def name_results(sources: Sequence[Source], recorded: Mapping[str, str]) -> list[str]:
    """The path below the results' folder, with `/`, that the names of each micrograph's results begin with.

    It is the micrograph's path below the folder that was named, without its suffix; of a file that was named itself its
    stem. Where two of one folder would meet, they keep their suffixes; where two of different folders would, their
    folder's name is put in front, and so on up the tree. Upper and lower case count as the same, for many file
    systems do not tell them apart.

    Args:
        recorded: of earlier results in the same folder the name and the micrograph's absolute path. These keep
            their names.
    """
    places = [str(source.path.resolve()) for source in sources]
    owners = {name.casefold(): place for name, place in recorded.items()}
    kept = {place: name for name, place in recorded.items()}
    levels = [0] * len(sources)
    while True:
        names = [
            kept.get(place) or _candidate(source, level, number)
            for number, (source, place, level) in enumerate(zip(sources, places, levels, strict=True), start=1)
        ]
        users: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            users.setdefault(name.casefold(), []).append(index)
        longer = list(levels)
        for index, (name, place) in enumerate(zip(names, places, strict=True)):
            if place in kept:
                continue
            same = users[name.casefold()]
            rivals = {*(places[user] for user in same), owners.get(name.casefold(), place)} - {place}
            first = min(levels[user] for user in same if places[user] not in kept)  # who has tried least gives way
            if rivals and levels[index] == first:
                beside = any(Path(rival).parent == Path(place).parent for rival in rivals)
                longer[index] = levels[index] + 1 if beside else 2 * (levels[index] // 2 + 1)
        if longer == levels:
            return names
        levels = longer


def name_pages(sources: Sequence[Source], names: Sequence[str]) -> list[tuple[Source, str]]:
    """Each source with the name of its results, of that of its file's: a page's number comes behind it.

    Raises:
        InputError: where that is the name of another file's results.
    """
    named: dict[str, tuple[Source, str]] = {}
    for source, name in zip(sources, names, strict=True):
        paged = name if source.page is None else f"{name}_p{source.page:04d}"
        other, _ = named.setdefault(paged.casefold(), (source, paged))
        if other != source:
            raise InputError(f"the results of {source.name} and of {other.name} have one name: segment them apart")
    return list(named.values())


def name_of_file(name: str, page: str, micrograph: str) -> str:
    """The name of a file's results, of the name of its page's: the reverse of `name_pages`.

    Args:
        page: the page's number, "" of a file of one page.
        micrograph: the file's name, which may end as those of pages do.
    """
    ending = f"_p{int(page):04d}" if page.isdigit() else ""
    whole = not ending or PurePosixPath(micrograph).stem == PurePosixPath(name).name
    return name if whole else name.removesuffix(ending)


def _candidate(source: Source, level: int, number: int) -> str:
    """Of rising `level` longer names: first the stem, then the name, then both below one folder more, and so on."""
    path = source.path.relative_to(source.folder)
    parts = list(path.parts if level % 2 else path.with_suffix("").parts)
    above = [part for part in source.folder.resolve().parts if part != source.folder.resolve().anchor]
    depth = level // 2
    if depth > len(above):  # the same but for the case of letters, or for the drive
        parts[-1] = f"{parts[-1]}_{level}_{number}"
    parts = above[max(len(above) - depth, 0) :] * (depth > 0) + parts
    return str(PurePosixPath(*map(portable, parts)))


def portable(part: str) -> str:
    """A name of a file or folder that Windows allows too."""
    part = RESERVED.sub("_", part)
    part = re.sub(r"[ .]$", "_", part)
    return f"_{part}" if DEVICE.match(part) else part
