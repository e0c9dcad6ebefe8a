"""Render a set of synthetic micrographs: some with labelled particles, some without labels for pretraining.

    python data/synthesize.py out=DIR
    python data/synthesize.py out=DIR seed=1 labelled=200 unlabelled=2000 size=1024 workers=16
    python data/synthesize.py out=DIR labelled=2000 unlabelled=0 variety=wide  # to train on for pictures of all sorts
    python data/synthesize.py out=DIR labelled=40 unlabelled=0 variety=wide specimens=[facets,powder]  # these alone
    python data/synthesize.py out=DIR labelled=50 unlabelled=0 variety=fungus  # a fungus in stained roots, in colour

kinds=[…] takes polyhedron, sphere, rod, fibre, plate, rough, hollow, secondary and satellited.

DIR gets labelled/images/*.tif and labelled/labels/*.tif (of the same names), unlabelled/*.tif (other fields) and
preview.png. The pixel size stands in the TIFFs as ImageJ writes it. Half of the unlabelled micrographs carry an
information bar below, like those of a microscope. Each field depends on the seed and its number alone: start again
after an interruption, or with larger numbers, and what is there is kept.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from tqdm import tqdm

from sempre.config import changed_keys, read_options, save_options
from sempre.errors import InputError, run_command
from sempre.files import whole_or_absent
from sempre.images import read_labels, read_micrograph, write_labels
from sempre.images.write import write_micrograph
from sempre.processes import in_order
from sempre.ranges import CountOrZero, OneOf, Range, Seed, Share
from sempre.synthetic import VARIETIES, FieldOptions, information_bar, render_field, render_fungus

SHAPING = (
    "empty_share",
    "seed",
    "size",
    "variety",
    "magnifications",
    "kinds",
    "specimens",
    "information_bars",
)  # options that change what a field shows
FUNGUS = "fungus"
Variety = Annotated[str, OneOf(*VARIETIES, FUNGUS)]
MAX_FIELDS = 2**31  # of either sort, so that the seeds of labelled and unlabelled fields never meet
TILE = 320  # side of an image in the preview, px
PREVIEWED = 12
COLOURS = np.array([(255, 196, 0), (0, 200, 255), (255, 90, 160), (120, 230, 90), (255, 130, 40)], np.uint8)


@dataclass
class Options:
    out: str = "???"  # output folder; an existing one is extended
    seed: Seed = 0  # random seed of the set
    labelled: Annotated[int, Range(0, MAX_FIELDS - 1)] = 24  # number of micrographs with label images
    unlabelled: Annotated[int, Range(0, MAX_FIELDS - 1)] = 96  # number of micrographs without label images
    empty_share: Share = 0.0  # extra share of labelled micrographs without particles
    size: Annotated[int, Range(64)] = 512  # height and width of each micrograph, px
    variety: Variety = "plain"  # wide: adds TEM, STEM, aggregates, printed pictures; fungus: roots in colour
    magnifications: list[str] = field(default_factory=list)  # low, medium, high: used in turn; empty: drawn at random
    kinds: list[str] = field(default_factory=list)  # particle shapes (all listed above); empty: drawn at random
    specimens: list[str] = field(default_factory=list)  # specimens to render in turn; empty: as variety= says
    information_bars: bool = True  # add a databar to half of the unlabelled micrographs
    workers: CountOrZero = 0  # parallel processes; 0: one for each CPU


@dataclass(frozen=True)
class Task:
    """A micrograph to make: what it shows, its size in px, where it goes, and where its labels go, if anywhere."""

    seed: int
    content: FieldOptions
    size: int
    image: Path
    labels: Path | None
    information_bars: bool


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    out = Path(options.out)
    check(options, out)
    tasks = [*labelled_tasks(options, out), *unlabelled_tasks(options, out)]
    for task in tasks:
        task.image.parent.mkdir(parents=True, exist_ok=True)
        if task.labels:
            task.labels.parent.mkdir(parents=True, exist_ok=True)
    save_options(options, out / "options.yaml")
    new = [task for task in tasks if not (task.image.is_file() and (task.labels is None or task.labels.is_file()))]
    with tqdm(total=len(tasks), initial=len(tasks) - len(new), unit=" images", desc="rendering") as progress:
        workers = (options.workers or os.cpu_count() or 1) if len(new) > 1 else 1
        for _ in in_order(make, ((task,) for task in new), workers):
            progress.update()
    write_preview(out / "preview.png", tasks[: min(options.labelled, PREVIEWED)])
    print(f"{out}: {options.labelled} labelled and {options.unlabelled} unlabelled micrographs ({len(new)} new)")
    return 0


def check(options: Options, out: Path) -> None:
    """Raises: InputError for options that exclude each other, and for a folder that holds another set."""
    if options.variety == FUNGUS and (options.magnifications or options.kinds or options.specimens):
        raise InputError(f"variety={FUNGUS} shows no particles: leave magnifications, kinds and specimens away")
    if (out / "options.yaml").is_file():
        changed = changed_keys(options, out / "options.yaml")
        other = [line for line in changed if line.split(":")[0] in SHAPING]
        if other:
            raise InputError(f"{out} holds another set ({', '.join(other)}): choose another folder, or delete it")


def labelled_tasks(options: Options, out: Path) -> list[Task]:
    first = options.seed * 2**32
    images, labels = out / "labelled" / "images", out / "labelled" / "labels"
    names = [f"labelled_{number:05}.tif" for number in range(options.labelled)]
    return [
        Task(
            first + number,
            shown(options, number, options.empty_share),
            options.size,
            images / name,
            labels / name,
            False,
        )
        for number, name in enumerate(names)
    ]


def unlabelled_tasks(options: Options, out: Path) -> list[Task]:
    first = options.seed * 2**32 + MAX_FIELDS
    return [
        Task(
            first + number,
            shown(options, number),
            options.size,
            out / "unlabelled" / f"unlabelled_{number:05}.tif",
            None,
            options.information_bars and options.variety != FUNGUS and number % 2 == 1,
        )
        for number in range(options.unlabelled)
    ]


def shown(options: Options, number: int, empty_share: float = 0.0) -> FieldOptions:
    """What field `number` is to show; the rest is drawn from its seed."""
    magnifications = options.magnifications
    magnification = magnifications[number % len(magnifications)] if magnifications else None
    # Evenly spread, and a longer set begins with the shorter one.
    empty = int((number + 1) * empty_share) > int(number * empty_share)
    turn = number // max(len(magnifications), 1)  # each specimen is seen at every magnification
    return FieldOptions(
        magnification,
        tuple(options.kinds) or None,
        count=0 if empty else None,
        variety=options.variety,
        specimen=options.specimens[turn % len(options.specimens)] if options.specimens else None,
    )


def make(task: Task) -> None:
    """Render a field and write it: the labels first, so that an image that is there has its labels."""
    size, content = (task.size, task.size), task.content
    if content.variety == FUNGUS:
        rendered = render_fungus(task.seed, size, infected=content.count != 0)
    else:
        rendered = render_field(task.seed, size, content)
    if task.labels:
        write_labels(task.labels, rendered.labels)
    pixels = rendered.pixels
    if task.information_bars:
        bar = information_bar(task.size, rendered.pixel_size_nm, np.random.default_rng([task.seed, 1]))
        pixels = np.concatenate([pixels, bar])
    write_micrograph(task.image, pixels, rendered.pixel_size_nm)


def write_preview(path: Path, tasks: list[Task]) -> None:
    """A contact sheet of labelled micrographs, their instances outlined. Whole or absent; none without micrographs."""
    if not tasks:
        return
    columns = min(len(tasks), 4)
    rows = -(-len(tasks) // columns)
    sheet = np.zeros((rows * TILE, columns * TILE, 3), np.uint8)
    for place, task in enumerate(tasks):
        y, x = place // columns * TILE, place % columns * TILE
        assert task.labels is not None
        pixels = read_micrograph(task.image, colour=True).pixels
        sheet[y : y + TILE, x : x + TILE] = outlined(pixels, read_labels(task.labels))
    with whole_or_absent(path) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")


def outlined(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pixels `[H, W, 3]`, labels `[H, W]` as a tile uint8 `[TILE, TILE, 3]`, a coloured line inside each instance."""
    shown = np.asarray(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS))
    rows, columns = (np.arange(TILE) * side // TILE for side in labels.shape)
    labels = np.pad(labels[rows][:, columns], 1, mode="edge")
    inner = labels[1:-1, 1:-1]
    neighbours = (labels[:-2, 1:-1], labels[2:, 1:-1], labels[1:-1, :-2], labels[1:-1, 2:])
    line = (inner > 0) & np.any([inner != neighbour for neighbour in neighbours], axis=0)
    return np.where(line[..., None], COLOURS[inner % len(COLOURS)], shown)


if __name__ == "__main__":
    run_command(main)
