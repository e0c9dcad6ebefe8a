"""Turn boxes around particles into a labelled set, with the ellipse of each box as its particle's outline.

    python data/boxes.py data=my_boxes out=my_set

`data` holds `images/` (or Pascal VOC's `JPEGImages/`) and `boxes/` (or `labels/`, `Annotations/`): for each micrograph
a file of its stem. That is Pascal VOC's `.xml`, or a `.txt` in the layout of YOLO, one line a particle: class, x and y
of the middle, width and height, as shares of the micrograph's. `out` gets `images/` and `labels/` as the fine-tuning
recipes read them. Ellipses are right for round particles that lie along no diagonal: look at the labels before you
train on others. Where two overlap the smaller lies on top.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sempre.config import read_options
from sempre.data.boxes import BOX_FOLDERS, BOX_SUFFIXES, read_boxes
from sempre.errors import InputError, run_command
from sempre.files import whole_or_absent
from sempre.images import draw_ellipses, find_micrographs, read_micrograph, write_labels
from sempre.images.label_names import IMAGE_FOLDERS, first_folder


@dataclass
class Options:
    data: str = "???"  # folder with images/ and boxes/
    out: str = "???"  # folder of the labelled set; an existing one is extended


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    data, out = Path(options.data), Path(options.out)
    folder, micrographs = first_folder(data, BOX_FOLDERS), first_folder(data, IMAGE_FOLDERS)
    if folder is None or micrographs is None:
        raise InputError(f"{data} has no images/ and boxes/: put a file of boxes for each micrograph there")
    for name in ("images", "labels"):
        (out / name).mkdir(parents=True, exist_ok=True)
    particles = 0
    for image in tqdm(find_micrographs(micrographs), unit="image"):
        shape = read_micrograph(image).pixels.shape
        files = [folder / f"{image.stem}{suffix}" for suffix in BOX_SUFFIXES]
        boxes = read_boxes(next((file for file in files if file.is_file()), files[0]), shape)
        write_labels(out / "labels" / f"{image.stem}.tif", draw_ellipses(boxes, shape))
        with whole_or_absent(out / "images" / image.name) as partial:
            shutil.copyfile(image, partial)
        particles += len(boxes)
    print(f"{options.out}: {particles} particles")
    return 0


if __name__ == "__main__":
    run_command(main)
