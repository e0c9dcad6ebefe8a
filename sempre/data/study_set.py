"""The labelled micrographs of Rettenberger et al. (2024, 2025) in the layouts in which people have them.

npj Comput. Mater. 10, 124 (2024) and npj Comput. Mater. 2025, doi 10.1038/s41524-025-01802-3. What is said here of
layouts, numbers and splits is from the authors' repository Uncertainty-Aware-Particle-Segmentation-for-SEM-Data, whose
scripts bring the two archives of osf.io/f2y8w into their final form.
"""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from sempre.data.splits import SPLITS, seeded_subset
from sempre.errors import InputError, warn

LAYOUTS = ("osf", "samples", "folders")
LABELS = ("confident", "less_certain")
# Micrographs that their scripts hold out for the test whatever the seed; counted from 0.
TEST_NUMBERS = {"low": (0, 2, 4, 7, 16, 18, 33, 35), "high": (0, 2, 4, 7, 18, 26, 33)}
# Train, validation and test: as the article has them, and as the scripts' fixed tests leave them.
ARTICLE = {"low": (34, 8, 9), "high": (25, 7, 8)}
SCRIPTS = {"low": (34, 9, 8), "high": (25, 8, 7)}
OSF_FOLDERS = ("confident-labels", "less-certain-labels")
PICTURES = {".png", ".tif", ".tiff"}
LABEL = re.compile(r"(.+)_label", re.IGNORECASE)
# In the order in which their script numbers the micrographs of low magnification.
LOW_ORDER = (
    ("positive-examples", re.compile(r"training-img(\d+)", re.IGNORECASE)),
    ("positive-examples", re.compile(r"img(\d+)", re.IGNORECASE)),
    ("round-3", re.compile(r"img(\d+)", re.IGNORECASE)),
    ("varied-brightness", re.compile(r"img(\d+)", re.IGNORECASE)),
)
LOOKED_FOR = (
    "the archives Low_Mag_Source_Files.zip and High_Mag_Source_Files.zip of osf.io/f2y8w or what they hold "
    "(Confident-Labels/, Less-Certain_Labels/), Low_Magnification/ or High_Magnification/ with Samples/ and "
    "High_Confidence_Labels/, or base_training/SEED/train/samples/"
)


@dataclass(frozen=True)
class StudyMicrograph:
    """Where a micrograph and its labels lie, as paths of the source.

    `magnification` is "low" or "high", `number` that of their scripts, `labels` the paths of those of `LABELS` that are
    there, `split` one of `sempre.data.splits.SPLITS`, or "" where the layout has none.
    """

    magnification: str
    number: int
    image: str
    labels: Mapping[str, str]
    split: str = ""

    @property
    def name(self) -> str:
        """Its stem in the set that is made: numbers of the two magnifications do not clash."""
        return f"{self.magnification}_{self.number:02}"


def find_study_set(
    paths: Collection[str], above: Sequence[str] = (), layout: str = "auto", scripts_seed: int = -1, sources: str = ""
) -> tuple[str, list[StudyMicrograph]]:
    """The layout, and the micrographs in it sorted by name.

    Args:
        paths: of all files of the source.
        above: the names of the source's folder and of those above it, which may say the magnification.
        layout: one of `LAYOUTS`; "auto" takes the first that is there of samples, folders and osf.
        scripts_seed: whose `base_training/SEED` is read; -1 takes the first there is.
        sources: the text of the scripts' `data_sources.txt`, by which files of OSF are numbered as theirs were.

    Raises:
        InputError: for a source that has none of the layouts, or not the one that is asked for; for a micrograph
            without its labels, and two micrographs of one number.
    """
    kept = [path for path in sorted(paths) if PurePosixPath(path).suffix.lower() in PICTURES]
    kept = [path for path in kept if "as_negative" not in path.casefold()]  # copies of the set with empty labels
    finders = {
        "samples": lambda: _samples(kept, above),
        "folders": lambda: _folders(kept, above, scripts_seed),
        "osf": lambda: _osf(kept, above, _numbers(sources)),
    }
    for name, find in finders.items():
        if layout in ("auto", name) and (found := find()):
            found.sort(key=lambda micrograph: micrograph.name)
            for first, second in pairwise(found):
                if first.name == second.name:
                    raise InputError(
                        f"{first.image} and {second.image} are both number {first.number} of {first.magnification} "
                        "magnification: give a folder that holds the set once"
                    )
            return name, found
    wanted = LOOKED_FOR if layout == "auto" else f"the layout {layout} (see --help)"
    raise InputError(
        f"{'/'.join(above[-1:]) or 'the source'} has {len(kept)} pictures and none of the study's: it needs {wanted}"
    )


def divide(
    micrographs: Sequence[StudyMicrograph], counts: Mapping[str, tuple[int, int, int]], seed: int = 0
) -> list[StudyMicrograph]:
    """The micrographs with splits: their fixed tests by number, and the rest drawn.

    Args:
        counts: of each magnification how many train, validate and are for the test: `ARTICLE` or `SCRIPTS`. Another
            number of micrographs than their sum is divided in the same shares.
        seed: of the micrographs that validate. Those that fill the test up are the same for every seed.
    """
    divided = []
    for magnification, wanted in counts.items():
        own = [micrograph for micrograph in micrographs if micrograph.magnification == magnification]
        if not own:
            continue
        if len(own) != sum(wanted):
            warn(
                f"{magnification} magnification has {len(own)} micrographs, not {sum(wanted)}: they are divided in the "
                "study's shares"
            )
        share = len(own) / sum(wanted)
        test = {i for i, micrograph in enumerate(own) if micrograph.number in TEST_NUMBERS[magnification]}
        rest = np.array([i for i in range(len(own)) if i not in test], int)
        lacking = max(round(wanted[2] * share) - len(test), 0)
        test |= set(seeded_subset(rest, lacking, 0).tolist()) if lacking else set()
        rest = np.array([i for i in rest.tolist() if i not in test], int)
        validating = max(round(wanted[1] * share), 1)
        validation = set(seeded_subset(rest, validating, seed).tolist()) if validating < len(rest) else set()
        for i, micrograph in enumerate(own):
            split = SPLITS[2] if i in test else SPLITS[1] if i in validation else SPLITS[0]
            divided.append(replace(micrograph, split=split))
    return sorted(divided, key=lambda micrograph: micrograph.name)


def split_names(micrographs: Iterable[StudyMicrograph], magnification: str = "") -> dict[str, list[str]]:
    """The names on each split, of one magnification or of both, as a split file holds them."""
    own = [micrograph for micrograph in micrographs if magnification in ("", micrograph.magnification)]
    return {split: [micrograph.name for micrograph in own if micrograph.split == split] for split in SPLITS}


def _samples(paths: Sequence[str], above: Sequence[str]) -> list[StudyMicrograph]:
    """`Low_Magnification/Samples/7.tif` with `High_Confidence_Labels/` and `Low_Confidence_Labels/` beside it."""
    there = {_plain(path): path for path in paths}
    found = []
    for path in paths:
        at = PurePosixPath(path)
        magnification = _magnification([*above, *at.parts[:-1]])
        if not magnification or at.parent.name.casefold() != "samples" or not at.stem.isdecimal():
            continue
        home = at.parent.parent
        if {"train", "val", "test"} & {home.name.casefold()}:
            continue
        labels = _those_there(
            there,
            {
                "confident": home / "High_Confidence_Labels" / at.name,
                "less_certain": home / "Low_Confidence_Labels" / at.name,
            },
        )
        found.append(StudyMicrograph(magnification, int(at.stem), path, labels))
    return found


def _folders(paths: Sequence[str], above: Sequence[str], seed: int) -> list[StudyMicrograph]:
    """`base_training/1234/train/samples/7.tif` with `labels_high_conf/` and `labels_low_conf/` beside `samples/`."""
    there = {_plain(path): path for path in paths}
    lying: list[tuple[int, str, str, PurePosixPath, str]] = []
    for path in paths:
        at = PurePosixPath(path)
        parts = [*above, *at.parts]
        names = [part.casefold() for part in parts]
        if len(names) < 5 or names[-2] != "samples" or not at.stem.isdecimal():
            continue
        split = {"train": SPLITS[0], "val": SPLITS[1], "test": SPLITS[2]}.get(names[-3])
        if split is None or names[-5] != "base_training" or not names[-4].isdecimal():
            continue
        kind = "combined" if "combined" in names else _magnification(parts[:-1])
        if kind:
            lying.append((int(names[-4]), kind, split, at, path))
    seeds = list(dict.fromkeys(entry[0] for entry in lying))
    if not seeds:
        return []
    if seed == -1:
        seed = seeds[0]
    elif seed not in seeds:
        raise InputError(f"scripts_seed={seed} is not there: base_training has {', '.join(map(str, sorted(seeds)))}")
    own = [entry for entry in lying if entry[0] == seed]
    if any(kind != "combined" for _, kind, *_ in own):  # the same micrographs, with their own numbers
        own = [entry for entry in own if entry[1] != "combined"]
    found = []
    # In Combined/ those of high magnification are counted on after those of low, and one number is left out between.
    numbers = {int(at.stem) for *_, at, _ in own}
    gap = next(number for number in range(len(numbers) + 1) if number not in numbers)
    for _, kind, split, at, path in own:
        number = int(at.stem)
        if kind == "combined":
            kind, number = ("low", number) if number < gap else ("high", number - gap - 1)
        home = at.parent.parent
        labels = _those_there(
            there,
            {"confident": home / "labels_high_conf" / at.name, "less_certain": home / "labels_low_conf" / at.name},
        )
        found.append(StudyMicrograph(kind, number, path, labels, split))
    return found


def _osf(paths: Sequence[str], above: Sequence[str], numbers: Mapping[str, int]) -> list[StudyMicrograph]:
    """`Low_Mag_Source_Files/Confident-Labels/Round-3/Img7.png` with `Img7_label.tif`, and the same names in
    `Less-Certain_Labels/`; of high magnification the two folders hold what the other's name says."""
    there = {_plain(path): path for path in paths}
    sorted_by: dict[str, list[tuple[list, PurePosixPath]]] = {"low": [], "high": []}
    for path in map(PurePosixPath, paths):
        folders = [_plain(part) for part in path.parts[:-1]]
        magnification = _magnification([*above, *path.parts[:-1]])
        if LABEL.fullmatch(path.stem):
            continue
        if magnification == "low" and "confident-labels" in folders:
            for rank, (folder, pattern) in enumerate(LOW_ORDER):
                if folders[-1] == folder and (matched := pattern.fullmatch(path.stem)):
                    sorted_by["low"].append(([rank, int(matched[1])], path))
                    break
        elif magnification == "high" and "less-certain-labels" in folders:
            sorted_by["high"].append((_natural(path.stem), path))
    found = []
    for magnification, keyed in sorted_by.items():
        micrographs = [path for _, path in sorted(keyed)]
        told = [numbers[key] for path in micrographs if (key := _source_key(magnification, path)) in numbers]
        if told and len(set(told)) < len(micrographs):
            raise InputError(
                "data_sources.txt does not number every micrograph once: remove it, or take this set's own"
            )
        if magnification == "high" and micrographs and not told:
            warn(
                "the authors' script numbers the micrographs of high magnification as its disk happens to list them; "
                "here they are numbered by name, so the fixed tests may be others than theirs, unless the "
                "data_sources.txt that the script writes lies in the source"
            )
        for number, path in zip(told or range(len(micrographs)), micrographs, strict=True):
            labels = _osf_labels(magnification, path, there)
            found.append(StudyMicrograph(magnification, number, path.as_posix(), labels))
    return found


def _osf_labels(magnification: str, path: PurePosixPath, there: Mapping[str, str]) -> dict[str, str]:
    folders = dict(zip(LABELS, OSF_FOLDERS if magnification == "low" else reversed(OSF_FOLDERS), strict=True))
    labels = {}
    for kind, folder in folders.items():
        parts = [folder if _plain(part) in OSF_FOLDERS else part for part in path.parts[:-1]]
        for suffix in sorted(PICTURES):
            label = _plain(PurePosixPath(*parts, f"{path.stem}_label{suffix}").as_posix())
            if label in there:
                labels[kind] = there[label]
    return labels


def _numbers(sources: str) -> dict[str, int]:
    """The number of each file of OSF by `data_sources.txt`, whose rows are source, file that was written, shape."""
    numbers = {}
    for row in csv.reader(io.StringIO(sources)):
        if len(row) < 2:
            continue
        source, written = PurePosixPath(row[0].strip()), PurePosixPath(row[1].strip())
        magnification = _magnification(written.parts)
        if magnification and written.stem.isdecimal():
            numbers[_source_key(magnification, source)] = int(written.stem)
    return numbers


def _source_key(magnification: str, path: PurePosixPath) -> str:
    """By what `data_sources.txt` and a source's paths agree on a file: names repeat from folder to folder."""
    return _plain(f"{magnification}/{path.parent.name}/{path.stem}")


def _those_there(there: Mapping[str, str], wanted: Mapping[str, PurePosixPath]) -> dict[str, str]:
    found = {kind: there.get(_plain(path.as_posix())) for kind, path in wanted.items()}
    return {kind: path for kind, path in found.items() if path is not None}


def _magnification(parts: Iterable[str]) -> str:
    """ "low" or "high" by the deepest of the folders that says so, else ""."""
    for part in reversed(list(parts)):
        if matched := re.match(r"(low|high)(-mag|$)", _plain(part)):
            return matched[1]
    return ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-").replace(" ", "-")


def _natural(stem: str) -> list[tuple[int, int | str]]:
    """A key that sorts img2 before img10."""
    return [(0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in re.split(r"(\d+)", stem) if part]


def above_of(source: Path) -> list[str]:
    """The names of a source's folder and of the three above it, down to where its paths begin."""
    folder = source.resolve()
    return list((folder.parent if folder.is_file() else folder).parts[-4:])
