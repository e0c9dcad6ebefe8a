"""Turn the published data of the SEM study into a labelled set, or its unlabelled micrographs into one folder.

    python data/import_study.py source=downloads out=my_set
    python data/import_study.py source=downloads out=my_set labels=less_certain clean=true
    python data/import_study.py source=repository out=my_set layout=folders scripts_seed=1337
    python data/import_study.py set=unlabelled source=downloads out=unlabelled

`source` of the labelled set (osf.io/f2y8w) is a folder with Low_Mag_Source_Files.zip and High_Mag_Source_Files.zip, or
with what they hold; or what the authors' scripts made of it: Low_Magnification/ and High_Magnification/ with Samples/,
or base_training/SEED/. `out` gets `images/` and `labels/` (low_00, low_01, … high_00, …, by the scripts' numbers),
`groups.csv` with low and high, `split.json` for both magnifications, `split_low.json` and `split_high.json` for one,
and `sources.csv`: where each file came from. Then train on both, or on one:

    python finetune/mask_rcnn.py data=my_set split_file=my_set/split.json groups=my_set/groups.csv
    python finetune/mask_rcnn.py data=my_set split_file=my_set/split_low.json

`source` of the unlabelled set (osf.io/yzrfv) is a folder with its archives or its micrographs; `out` gets the
micrographs in their folders, which `python data/prepare.py images=unlabelled store=store.h5` reads. Start it again
after an interruption, and it goes on where it was.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from sempre.config import read_options
from sempre.data.archives import FilesAndArchives
from sempre.data.study_set import (
    ARTICLE,
    SCRIPTS,
    StudyMicrograph,
    above_of,
    divide,
    find_study_set,
    split_names,
)
from sempre.errors import InputError, run_command
from sempre.files import read_json, write_csv, write_json
from sempre.images import MICROGRAPH_SUFFIXES, read_labels, read_micrograph, write_labels
from sempre.images.write import write_micrograph
from sempre.ranges import Range, Seed

LARGEST_TABLE = 1 << 20  # bytes
COMMON_SHAPE = (1200, 1920)  # to which their script brings micrographs of high magnification


@dataclass
class Options:
    source: str = "???"  # folder with the archives, their contents, or the output of the authors' scripts
    out: str = "???"  # output folder; an existing one is continued
    set: Literal["labelled", "unlabelled"] = "labelled"  # 91 labelled micrographs, or 24,751 others
    labels: Literal["confident", "less_certain"] = "confident"  # less_certain: uncertain particles, too
    layout: Literal["auto", "samples", "folders", "osf"] = "auto"  # osf: as downloaded; samples, folders: by scripts
    sides: Literal["auto", "article", "scripts", "folders"] = "auto"  # split; auto: the folders', else the article's
    scripts_seed: Annotated[int, Range(-1)] = -1  # reads base_training/<this seed>; -1 takes the first one found
    seed: Seed = 0  # random seed that draws the validation micrographs if no folder defines them
    clean: bool = False  # make each connected piece one particle; unlike the scripts', without a limit of 255
    common_size: bool = False  # bring micrographs of high magnification to 1920 x 1200 px as the scripts do


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    source, out = Path(options.source), Path(options.out)
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"out={out} lies in source={source}: choose a folder elsewhere")
    with FilesAndArchives(source) as files:
        if options.set == "unlabelled":
            import_unlabelled(files, out)
        else:
            import_labelled(options, files, out)
    return 0


def import_labelled(options: Options, files: FilesAndArchives, out: Path) -> None:
    """Write the labelled set; micrographs whose labels are in `out` already are left as they are."""
    sources = next((path for path in files.files if PurePosixPath(path).name == "data_sources.txt"), None)
    with TemporaryDirectory() as scratch:
        text = ""
        if sources is not None:
            if files.size(sources) > LARGEST_TABLE:
                raise InputError(f"{sources} has {files.size(sources)} bytes and is no table of 91 files: remove it")
            files.bring(sources, Path(scratch) / "data_sources.txt")
            text = (Path(scratch) / "data_sources.txt").read_text(encoding="utf-8", errors="replace")
        layout, found = find_study_set(files.files, above_of(files.source), options.layout, options.scripts_seed, text)
        sides = options.sides
        if sides == "auto":
            sides = "folders" if layout == "folders" else "article"
        if sides == "folders" and layout != "folders":
            raise InputError("sides=folders needs base_training/SEED: give layout=folders, or sides=article")
        if sides != "folders":
            found = divide(found, ARTICLE if sides == "article" else SCRIPTS, options.seed)
        if lacking := [micrograph for micrograph in found if options.labels not in micrograph.labels]:
            raise InputError(
                f"{lacking[0].image} has no {options.labels} labels, nor have {len(lacking) - 1} others of the "
                f"{len(found)} micrographs: take the other labels=, or another layout="
            )
        begin(options, out)
        for folder in ("images", "labels"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        for micrograph in tqdm(found, unit="image"):
            if not (out / "labels" / f"{micrograph.name}.tif").is_file():
                import_micrograph(options, files, micrograph, Path(scratch), out)
    write_csv(out / "groups.csv", [{"name": entry.name, "group": entry.magnification} for entry in found])
    rows = [
        {"name": entry.name, "side": entry.split, "micrograph": entry.image, "labels": entry.labels[options.labels]}
        for entry in found
    ]
    write_csv(out / "sources.csv", rows)
    for magnification in ("low", "high"):
        if any(entry.magnification == magnification for entry in found):
            write_json(out / f"split_{magnification}.json", split_names(found, magnification))
    write_json(out / "split.json", split_names(found))
    print(f"{out}: {summary(found)} (layout {layout})")


def begin(options: Options, out: Path) -> None:
    """Note how the set is made, and see to it that a set made otherwise is not gone on with.

    Raises:
        InputError: where it was.
    """
    told = {name: value for name, value in asdict(options).items() if name not in ("out", "set", "sides", "seed")}
    told["source"] = str(Path(options.source).resolve())
    note = out / "import.json"
    if note.is_file():
        before = read_json(note)
        changed = [name for name, value in told.items() if before.get(name) != value]
        if changed:
            raise InputError(
                f"{out} was made with {changed[0]}={before.get(changed[0])}, not {told[changed[0]]}: choose another out"
            )
        return
    if (out / "images").exists():
        raise InputError(f"{out} holds images/ already: choose another out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(note, told)


def import_micrograph(
    options: Options, files: FilesAndArchives, micrograph: StudyMicrograph, scratch: Path, out: Path
) -> None:
    """Write a micrograph to `out/images` and then its labels to `out/labels`.

    Raises:
        InputError: for one that cannot be read, and labels that are none or of another size.
    """
    image, label = micrograph.image, micrograph.labels[options.labels]
    suffix = PurePosixPath(image).suffix.lower()
    own = scratch / f"image{suffix}"
    files.bring(image, own)
    labels_file = scratch / f"labels{PurePosixPath(label).suffix.lower()}"
    files.bring(label, labels_file)
    try:
        read = read_micrograph(own)
    except InputError as error:
        raise InputError(f"{image} cannot be read: {error}") from error
    try:
        labels = read_labels(labels_file)
    except InputError as error:
        if same_pixels(read.pixels, labels_file):
            raise InputError(
                f"{label} holds the micrograph and not its labels, as the authors' script leaves it for micrographs of "
                "varied brightness: take labels=confident, or the archives with layout=osf"
            ) from error
        raise InputError(f"{label} cannot be read: {error}") from error
    if labels.shape != read.pixels.shape:
        shapes = [f"{width} x {height}" for height, width in (read.pixels.shape, labels.shape)]
        raise InputError(
            f"{image} is {shapes[0]} px and its labels {label} are {shapes[1]} px: one of them is another's"
        )
    if options.common_size and micrograph.magnification == "high" and labels.shape != COMMON_SHAPE:
        pixels, labels = to_common_size(read.pixels, labels)
        size = read.pixel_size
        if size is not None:
            height, width = read.pixels.shape
            size = (size.x * width / COMMON_SHAPE[1], size.y * height / COMMON_SHAPE[0])
        write_micrograph(out / "images" / f"{micrograph.name}.tif", pixels, size)
    else:
        files.bring(image, out / "images" / f"{micrograph.name}{suffix}")
    write_labels(out / "labels" / f"{micrograph.name}.tif", pieces(labels) if options.clean else labels)


def same_pixels(pixels: np.ndarray, file: Path) -> bool:
    """Whether a file shows the same as `pixels` `[H, W]`."""
    try:
        return np.array_equal(read_micrograph(file).pixels, pixels)
    except InputError:
        return False


def to_common_size(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A micrograph and its labels `[H, W]` as `[1200, 1920]`: means of 3 x 3 px, then the nearest pixel of each."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(COMMON_SHAPE, pixels.shape, strict=True))
    mean = ndimage.uniform_filter(pixels.astype(np.float64), 3, mode="mirror")
    smooth = mean if pixels.dtype.kind == "f" else np.rint(mean)
    return smooth.astype(pixels.dtype)[np.ix_(rows, columns)], labels[np.ix_(rows, columns)]


def pieces(labels: np.ndarray) -> np.ndarray:
    """Labels `[H, W]` in which each piece of an id's pixels, joined by sides or corners, is a particle; ids from 1."""
    ids = np.unique(np.append(labels, 0))
    ranks = np.searchsorted(ids, labels)
    whole = np.zeros(labels.shape, np.int32)
    last = 0
    for rank, place in enumerate(ndimage.find_objects(ranks), 1):
        numbered, count = ndimage.label(ranks[place] == rank, np.ones((3, 3)))
        whole[place][numbered > 0] = numbered[numbered > 0] + last
        last += count
    return whole


def summary(micrographs: Sequence[StudyMicrograph]) -> str:
    """As in "51 of low magnification (34 train, 8 validation, 9 test)"."""
    words = []
    for magnification in ("low", "high"):
        sides = split_names(micrographs, magnification)
        count = sum(map(len, sides.values()))
        if count:
            words.append(
                f"{count} of {magnification} magnification ({', '.join(f'{len(n)} {s}' for s, n in sides.items())})"
            )
    return ", ".join(words)


def import_unlabelled(files: FilesAndArchives, out: Path) -> None:
    """Bring the micrographs of the source to `out`, in their folders; those that are there already stay.

    Files of a folder on the same disk are linked, not copied.

    Raises:
        InputError: where the source holds no micrograph.
    """
    found = [path for path in sorted(files.files) if PurePosixPath(path).suffix.lower() in MICROGRAPH_SUFFIXES]
    if not found:
        raise InputError(
            f"{files.source} holds no micrographs ({', '.join(sorted(MICROGRAPH_SUFFIXES))}) and no .zip with any: "
            "give the folder with what was downloaded from osf.io/yzrfv, other archives unpacked"
        )
    out.mkdir(parents=True, exist_ok=True)
    new = [path for path in found if not ((out / path).is_file() and (out / path).stat().st_size == files.size(path))]
    files.check_room(new, out)
    for path in tqdm(new, unit="image"):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        files.bring(path, out / path, link=True)
    print(f"{out}: {len(found)} micrographs ({len(new)} new); next: python data/prepare.py images={out} store=store.h5")


if __name__ == "__main__":
    run_command(main)
