"""Segment new micrographs, a volume or a store with a U-Net that finetune/unet.py trained on heat maps.

    python tools/refine.py model=runs/unet/fold-0 images=my_folder out=refined
    python tools/refine.py model=runs/unet/fold-0 images=volume.ims channel=-2 out=refined

The model's folder tells how micrographs are normalised and at what size they are seen, and holds the prototypes of its
heat maps; no clicks and no labels are needed. `out` is a labelled set whose masks are one instance each: `images/`,
`labels/` and, for looking at, `overlays/`. Volumes are besides one label volume each, `volumes/<name>.ome.tif`, with
their volume and surface beside it; their slices are read one by one.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.config import read_options, save_options
from sempre.data.volume_slices import VolumeSource, open_slices, output_stems
from sempre.deploy.overlay import write_overlay
from sempre.errors import InputError, run_command
from sempre.frozen.extract import extract, input_shape
from sempre.frozen.refinement import load_refiner
from sempre.images import percentile_range, write_labels
from sempre.images.levels import to_grey
from sempre.images.volume_objects import label_volume
from sempre.images.write import write_micrograph
from sempre.ranges import CountOrZero, Index, PositiveOrZero


@dataclass
class Options:
    model: str = "???"  # a finished fold of finetune/unet.py, runs/<name>/fold-<n>
    images: str = "???"  # folder of micrographs, a volume, a folder of volumes with slices=N, or a store
    out: str = "???"  # folder for the masks
    backbone: str = ""  # new place of the model's backbone, if it has moved
    weights: str = ""  # new place of the backbone's official file, if it has moved
    slices: CountOrZero = 0  # evenly spaced slices taken from each volume; 0: all
    channel: Index = 0  # channel of a volume to read; -1: the last
    skip: CountOrZero = 0  # leave out this many first and last slices of a volume
    slice_distance_nm: PositiveOrZero = 0.0  # distance between slices of a volume, nm; 0: from its file
    embeddings: str = ""  # cache folder for embeddings; empty: beside the store, else runs/embeddings


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    out = Path(options.out)
    if any((out / "labels").glob("*")):
        raise InputError(f"{out}/labels holds labels, perhaps corrected ones: give another out=")
    refiner = load_refiner(options.model, options.backbone, options.weights)
    percentiles = percentile_range(refiner.details["percentiles"])
    plain = refiner.details.get("plain_percentiles", False)
    chosen = {"skip": options.skip, "colour": refiner.colour, "plain": plain}
    source = open_slices(options.images, options.slices, options.channel, percentiles, **chosen)
    if (found := source.preparation["percentiles"]) != percentiles:
        (low, high), own = found, " and ".join(f"{value:g}" for value in percentiles)
        raise InputError(
            f"{source.path} was normalised by the percentiles {low:g} and {high:g}, and the micrographs that "
            f"{options.model} learnt from by {own}: prepare the store alike"
        )
    stems = output_stems(source)
    extraction = refiner.extraction(embeddings=options.embeddings)
    for folder in ("images", "labels", "overlays"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    save_options(options, out / "config.yaml")

    with extract(source, refiner.encoder, extraction) if refiner.encoder else nullcontext() as embeddings:
        for index, stem in enumerate(tqdm(stems, desc="segmenting", unit="image")):
            pixels, pixel_size_nm = source.read(index)
            shape = input_shape(source.names[index], pixels.shape[:2], pixel_size_nm, extraction)
            embedding = embeddings[source.sha256s[index]] if embeddings is not None else None
            labels = refiner.mask(pixels, shape, embedding).astype(np.int32)
            write_micrograph(out / f"images/{stem}.tif", pixels, pixel_size_nm)
            write_labels(out / f"labels/{stem}.tif", labels)
            write_overlay(out / f"overlays/{stem}.png", to_grey(pixels), labels, pixel_size_nm)

    if isinstance(source, VolumeSource):
        for volume, indices in source.volumes():
            positions = [source.slice_of(index)[1] for index in indices]
            files = [out / f"labels/{stems[index]}.tif" for index in indices]
            distance_nm = options.slice_distance_nm or volume.slice_distance_nm
            print(label_volume(volume, positions, files, out / "volumes", distance_nm, options.skip))
    print(f"{len(source)} masks: look at {out / 'overlays'}")
    return 0


if __name__ == "__main__":
    run_command(main)
