"""Show where a vision transformer looks: attention of its class token, head by head, in any images.

    python evaluate/attention.py images=FOLDER backbone=dino_deitsmall8_pretrain.pth name=attention
    python evaluate/attention.py images=volume.ims slices=20 backbone=runs/dino/backbone layer=-2

Images are a folder of micrographs, a volume, a folder of volumes with slices=N, or a store. They are seen whole, or
with tile=320 in tiles of 320 px, each with its own class token. `runs/<name>/heads/` holds a TIFF each, one channel a
head, float32 at the size that the image was seen at; `pictures/` a PNG each, the image beside its heads in colours;
report.html shows the first of them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from sempre.config import read_options, save_options
from sempre.data.volume_slices import open_slices, output_stems
from sempre.files import whole_or_absent
from sempre.frozen.attention import check_class_token, head_maps
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import LARGEST_INPUT, ExtractionOptions, check_percentiles, file_percentiles
from sempre.frozen.extract import check as check_extraction
from sempre.frozen.tiles import TileSource
from sempre.images.levels import to_grey
from sempre.images.write import write_channels
from sempre.processes import run_in_one_process
from sempre.ranges import Count, CountOrZero, Index, RunName, Seed
from sempre.report.cluster_page import AttentionExample, attention_parts, draw_attention
from sempre.report.html import write_page


@dataclass(kw_only=True)
class Options(ExtractionOptions):
    images: str = "???"  # folder of micrographs, a volume, a folder of volumes with slices=N, or a store
    backbone: str = "???"  # vision transformer: backbone/ folder, official .pth, timm's name, random:<its name>
    weights: str = ""  # DINO or DINOv2 file, if backbone= is a name
    name: RunName = "attention"  # the result goes to runs/<name>
    size: CountOrZero = 512  # resize the longer side to this, px; 0: keep the resolution
    tile: CountOrZero = 0  # cut larger images into tiles of this side, px; 0: do not cut
    slices: CountOrZero = 0  # evenly spaced slices taken from each volume; 0: all
    channel: Index = 0  # channel of a volume to read; -1: the last
    skip: CountOrZero = 0  # leave out this many first and last slices of a volume
    colour: bool = False  # read images in colour instead of as luminance
    shown: Count = 4  # number of images in the report
    seed: Seed = 0  # random seed of weights, for random:<name>


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check_extraction(options)
    encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
    check_class_token(encoder)
    encoder = encoder.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    percentiles = file_percentiles(options, encoder)
    chosen = {"skip": options.skip, "colour": options.colour, "plain": options.plain_percentiles}
    source = open_slices(options.images, options.slices, options.channel, percentiles, **chosen)
    check_percentiles(source, encoder, options)
    stems = output_stems(source)
    tiles = TileSource(source, options, options.tile or LARGEST_INPUT)
    folder = Path("runs") / options.name
    for kind in ("heads", "pictures"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    save_options(options, folder / "config.yaml")

    examples, count = [], 0
    for index, stem in enumerate(tqdm(stems, desc="attention", unit="image")):
        heads = head_maps(encoder, tiles, index)
        count = len(heads)
        example = AttentionExample(encoder.name, stem, to_grey(tiles.micrograph(index)), heads)
        write_channels(folder / f"heads/{stem}.tif", heads)
        pictures = [picture for picture, _ in draw_attention(example)]
        pictures[0] = np.repeat(pictures[0][..., None], 3, axis=2)
        with whole_or_absent(folder / f"pictures/{stem}.png") as partial:
            Image.fromarray(np.concatenate(pictures, axis=1)).save(partial, format="PNG")
        if index < options.shown:
            examples.append(example)
    write_page(folder / "report.html", f"Attention: {Path(options.images).name}", attention_parts(examples))
    print(f"{len(stems)} images, {count} heads each: {folder / 'report.html'}")
    return 0


if __name__ == "__main__":
    run_in_one_process(main)
