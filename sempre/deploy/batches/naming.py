"""What the results of each micrograph are called: names that mirror the micrographs' and never meet."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from sempre.deploy.batches.inputs import Source
from sempre.errors import InputError

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
