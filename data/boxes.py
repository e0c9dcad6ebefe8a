"""Turn boxes around particles into a labelled set, with the ellipse of each box as its particle's outline.

    python data/boxes.py data=my_boxes out=my_set

`data` holds `images/` and `boxes/` (or `labels/`): for each micrograph a text file of its stem in the layout of YOLO,
one line a particle: class, x and y of the middle, width and height, as shares of the micrograph's. `out` gets `images/`
and `labels/` as the fine-tuning recipes read them. Ellipses are right for round particles that lie along no diagonal:
look at the labels before you train on others. Where two overlap the smaller lies on top.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.config import read_options
from sempre.errors import InputError, run_command
from sempre.files import whole_or_absent
from sempre.images import draw_ellipses, find_micrographs, read_micrograph, write_labels

BOX_FOLDERS = ("boxes", "labels")


@dataclass
class Options:
    data: str = "???"  # folder with images/ and boxes/
    out: str = "???"  # labelled set to make or to add to


def main() -> None:
    options = read_options(Options)
    folders = [Path(options.data) / name for name in BOX_FOLDERS if (Path(options.data) / name).is_dir()]
    if not folders:
        raise InputError(f"{options.data} has no boxes/: put a text file of boxes for each micrograph there")
    images, labels = Path(options.out) / "images", Path(options.out) / "labels"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(exist_ok=True)
    particles = 0
    for image in tqdm(find_micrographs(Path(options.data) / "images"), unit="image"):
        shape = read_micrograph(image).pixels.shape
        boxes = read_boxes(folders[0] / f"{image.stem}.txt", shape)
        write_labels(labels / f"{image.stem}.tif", draw_ellipses(boxes, shape))
        with whole_or_absent(images / image.name) as partial:
            shutil.copyfile(image, partial)
        particles += len(boxes)
    print(f"{options.out}: {particles} particles")


def read_boxes(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Boxes `[N, 4]` (x0, y0, x1, y1 in px) of a micrograph of `shape` (height, width).

    Raises:
        InputError: for a file that is missing, or is no list of boxes as shares of the micrograph.
    """
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = np.array([[float(value) for value in line[1:5]] for line in lines]).reshape(-1, 4)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no list of boxes: {error}") from error
    if not ((rows >= 0) & (rows <= 1)).all():
        raise InputError(f"{path} has boxes that are no shares of the micrograph: give x, y, width, height from 0 to 1")
    centres, sizes = rows[:, :2], rows[:, 2:]
    return np.hstack([centres - sizes / 2, centres + sizes / 2]) * np.tile(shape[::-1], 2)


if __name__ == "__main__":
    run_command(main)
