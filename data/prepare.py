"""Put a folder of micrographs into one store for pretraining.

    python data/prepare.py images=FOLDER store=store.h5
    python data/prepare.py images=FOLDER store=store.h5 labels_from=prefix crop_information_bar=false workers=16
    python data/prepare.py images=FOLDER store=shards/2-of-8.h5 shard=2/8

Every readable micrograph below FOLDER (TIFF, PNG, JPEG, DM, …) becomes grey values of 8 bit: its information bar is cut
off and its 1st and 99th percentile become 0 and 255 (in a sparse field, what stands out beyond them does). Label images
of a labelled set (`labels/` or `segmaps/` beside `images/`) are passed over. Files that are unreadable, truncated,
empty or constant are left out and listed with the reason in `store.h5.report.json`. Start it again after an
interruption, or after adding files, and it goes on where it was. The store's contents depend on the folder alone, not
on the number of workers.
With `shard=` it holds one part of the files, so that several machines prepare a folder of shards, read as one store.
"""

import json
import os
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from sempre.config import read_options
from sempre.data.groups import RuleName, label_rule
from sempre.data.store_writer import Intake, Skipped, StoreWriter
from sempre.errors import InputError, run_command
from sempre.images import find_micrographs, percentile_range
from sempre.processes import in_order
from sempre.ranges import Count, CountOrZero, GreyRange, Magnification, Seed


@dataclass
class Options:
    images: str = "???"  # folder of micrographs; sub-folders are searched too
    store: str = "???"  # HDF5 file to write; an existing one is extended
    percentiles: GreyRange = field(default_factory=lambda: [1.0, 99.0])  # grey-value percentiles made 0 and 255
    plain_percentiles: bool = False  # do not widen the grey range of sparse fields beyond the percentiles
    crop_information_bar: bool = True  # cut off the databar below the micrograph
    scale: Magnification = 1.0  # resize micrographs by this factor; use the detector's scale
    labels_from: RuleName = "none"  # source of labels; prefix: file name up to the first "_"; folder: folder name
    labels_csv: str = ""  # for labels_from=csv: rows file,label; file: path in the folder or a name
    patch_size: Count = 64  # side of the patches stored beside the images, px
    patches: CountOrZero = 16  # number of random patches stored for each image
    seed: Seed = 0  # random seed that places the patches
    workers: CountOrZero = 0  # parallel processes; 0: one for each CPU
    shard: str = ""  # k/n: prepare only part k of n; a hash of each file's path assigns its part


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    folder, store = Path(options.images), Path(options.store)
    percentiles = percentile_range(options.percentiles)
    label_of = label_rule(options.labels_from, options.labels_csv)
    files = [file for file in find_micrographs(folder) if file.resolve() != store.resolve()]
    paths = [file.relative_to(folder).as_posix() for file in files]
    if options.shard:
        paths = part_of(paths, options.shard)
    workers = options.workers or os.cpu_count() or 1
    plain = options.plain_percentiles
    intake = Intake(folder, percentiles, options.crop_information_bar, options.scale, plain)
    store.parent.mkdir(parents=True, exist_ok=True)
    skipped = []
    with StoreWriter(
        store,
        percentiles,
        options.patch_size,
        options.patches,
        options.seed,
        crop_information_bar=options.crop_information_bar,
        scale=options.scale,
        labels_from=options.labels_from,
        **({"shard": options.shard} if options.shard else {}),
        **({"plain_percentiles": True} if plain else {}),
    ) as writer:
        before = len(writer.stored)
        new = [path for path in paths if not unchanged(folder / path, writer.stored.get(path))]
        tasks = ((path, label_of(path), writer.stored.get(path, (None,) * 3)[2]) for path in new)
        with tqdm(total=len(paths), initial=len(paths) - len(new), unit=" images", desc="preparing") as progress:
            for result in in_order(intake, tasks, workers):
                progress.update()
                if isinstance(result, Skipped):
                    skipped.append(result)
                elif result is not None:
                    writer.append(result)
        if not writer.stored and len(skipped) == len(paths):
            write_report(store, writer, skipped)
            raise InputError(f"none of the {len(paths)} files in {folder} can be used: see {report_path(store)}")
        writer.finish()
        write_report(store, writer, skipped)
        print(
            f"{store}: {len(writer.stored)} images ({len(writer.stored) - before} new), {len(skipped)} files left out"
            + (f", reasons in {report_path(store)}" if skipped else "")
        )
    return 0


def part_of(paths: list[str], shard: str) -> list[str]:
    """The paths of shard "k/n". A hash of the path decides, so files that are added later move no other."""
    number, slash, count = shard.partition("/")
    numeric = slash and number.isdecimal() and count.isdecimal()
    if not numeric or f"{int(number)}/{int(count)}" != shard or not 1 <= int(number) <= int(count):
        raise InputError(f"shard={shard} is no part of a whole: give k/n with k from 1 to n, such as 2/8")
    part = [path for path in paths if zlib.crc32(path.encode()) % int(count) == int(number) - 1]
    if not part:
        raise InputError(f"shard={shard} would be empty, there are {len(paths)} files: make fewer shards")
    return part


def unchanged(file: Path, stored: tuple[int, int, str] | None) -> bool:
    """Whether the file has the size and time of change that it had when it was stored."""
    if stored is None:
        return False
    status = file.stat()
    return (status.st_size, status.st_mtime_ns) == stored[:2]


def report_path(store: Path) -> Path:
    return store.with_name(f"{store.name}.report.json")


def write_report(store: Path, writer: StoreWriter, skipped: list[Skipped]) -> None:
    copies = Counter(sha256 for _, _, sha256 in writer.stored.values())
    report = {
        "images": len(writer.stored),
        "copies": sum(count - 1 for count in copies.values()),  # of the same bytes under another name
        "skipped": [asdict(file) for file in skipped],
    }
    temporary = report_path(store).with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(report_path(store))


if __name__ == "__main__":
    run_command(main)
