"""`sempre segment`: particles of micrographs, on the microscope's PC; `sempre models`: what comes with it.

sempre segment IMAGES... [--model MODEL] --out FOLDER
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import sempre
from sempre.deploy.instance import Box
from sempre.deploy.overlay import write_overlay
from sempre.deploy.particles import write_csv
from sempre.deploy.released import DEFAULT, find_bundle, list_released
from sempre.deploy.rois import write_rois
from sempre.deploy.segmenter import Segmentation, Segmenter
from sempre.deploy.size_plot import write_size_plot
from sempre.errors import InputError, run_command
from sempre.files import whole_or_absent
from sempre.images import Micrograph, crop_information_bar, find_micrographs, read_micrograph, write_labels
from sempre.images.scale_bar import Reader, read_scale_bar

SUMMARY = (
    "micrograph",
    "width_px",
    "height_px",
    "pixel_size_nm",
    "pixel_size_source",
    "particles",
    "covered_share",
    "median_equivalent_diameter_px",
    "median_equivalent_diameter_nm",
    "overflowing_tiles",
    "error",
)
EXAMPLES = """examples:
  sempre segment my_micrographs --out results            outline and measure all particles of a folder
  sempre segment a.tif --model my_bundle --out results --pixel-size-nm 2.5 --imagej-rois
                                                         with your own model, sizes in nm, outlines for ImageJ
  sempre models                                          the models that come with sempre, and how good they are
"""


def main(argv: list[str] | None = None) -> None:
    """Exit with 0, with 1 if some micrographs could not be segmented, 2 for arguments or a bundle of no use."""
    options = _parser().parse_args(argv)
    run_command(lambda: options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sempre",
        description="Segment the particles in electron micrographs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sempre {sempre.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "segment",
        help="find, outline and measure the particles of micrographs",
        description="For each micrograph NAME.* it writes NAME_instances.tif (a label image), NAME_particles.csv (sizes"
        " and shapes) and NAME_overlay.png; for all together summary.csv and size_distribution.png.",
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a micrograph, or a folder of them")
    command.add_argument(
        "--model",
        help=f"a bundle's folder, or the name of a model that comes with sempre (default: {DEFAULT})",
    )
    command.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the results go")
    command.add_argument(
        "--pixel-size-nm", type=float, metavar="NM", help="nm per pixel, instead of what the files say"
    )
    command.add_argument(
        "--scale-bar",
        action=argparse.BooleanOptionalAction,
        help="read the burnt-in scale bar where the files say no pixel size (default: if sempre[ocr] is installed)",
    )
    command.add_argument(
        "--score-threshold", type=float, metavar="SCORE", help="0 to 1: higher finds fewer, surer particles"
    )
    command.add_argument("--flips", action="store_true", help="average over mirror images: a little better, slower")
    command.add_argument("--imagej-rois", action="store_true", help="write NAME_rois.zip for ImageJ's ROI manager too")
    command.add_argument("--crop-information-bar", action="store_true", help="leave out the bar below the micrograph")
    command.add_argument("--threads", type=int, metavar="N", help="processor threads for the network (default: all)")
    command.set_defaults(run=segment)
    command = commands.add_parser(
        "models", help="list the models that come with sempre", description="List the models that come with sempre."
    )
    command.set_defaults(run=list_models)
    return parser


@dataclass(frozen=True)
class Result:
    """A segmented micrograph's row of the summary, its particles' equivalent diameters in px, and the boxes in which
    some may be missing."""

    row: dict[str, str]
    diameters: np.ndarray
    pixel_size_nm: float | None
    overflowing: list[Box]


def segment(options: argparse.Namespace) -> int:
    """Segment every micrograph; one that fails gives a line on stderr and does not stop the others.

    Raises:
        InputError: for options or a bundle that cannot be used, before anything is segmented.
    """
    if options.pixel_size_nm is not None and not 0 < options.pixel_size_nm < np.inf:
        raise InputError(f"--pixel-size-nm {options.pixel_size_nm:g} is no size: give nm per pixel, above 0")
    if options.score_threshold is not None and not 0 <= options.score_threshold <= 1:
        raise InputError(f"--score-threshold {options.score_threshold:g} lies outside [0, 1]")
    paths = list_micrographs(options.images, options.out)
    segmenter = Segmenter(find_bundle(options.model), options.threads, flips=options.flips)
    reader = scale_bar_reader(options.scale_bar, options.threads) if options.pixel_size_nm is None else None
    options.out.mkdir(parents=True, exist_ok=True)
    results, rows = [], []
    for path in tqdm(paths, unit="micrograph", disable=None):  # no bar where stderr is no terminal
        try:
            result = segment_micrograph(path, segmenter, options, reader)
        except (InputError, MemoryError) as error:
            message = " ".join(str(error).split()) or f"{path} needs more memory than there is"
            tqdm.write(f"error: {path.name}: {message}", file=sys.stderr)
            rows.append({"micrograph": path.name, "error": message})
            continue
        if result.overflowing:
            x0, y0, x1, y1 = result.overflowing[0]
            tqdm.write(
                f"warning: {path.name}: {len(result.overflowing)} tiles hold more particles than the model lists, the"
                f" first at x {x0} to {x1}, y {y0} to {y1} px: some may be missing, record at a higher magnification",
                file=sys.stderr,
            )
        results.append(result)
        rows.append(result.row)
    write_summary(options.out / "summary.csv", rows)
    plot_sizes(options.out / "size_distribution.png", results)
    failed = len(paths) - len(results)
    particles = sum(len(result.diameters) for result in results)
    print(f"{particles} particles in {len(results)} micrographs, {failed} failed: {options.out}")
    return 1 if failed else 0


def scale_bar_reader(wanted: bool | None, threads: int | None) -> Reader | None:
    """What reads scale bars; None where that is not wanted, or where nobody said and the extra is not installed.

    Raises:
        InputError: where it is wanted, and the extra is not installed.
    """
    if wanted is False:
        return None
    try:
        return Reader(threads)
    except ImportError:
        if wanted:
            raise InputError("--scale-bar needs an OCR library: pip install 'sempre[ocr]'") from None
        return None


def list_micrographs(images: Iterable[Path], out: Path) -> list[Path]:
    """The micrographs named, and those in the folders named, without earlier results in `out`; each once.

    Raises:
        InputError: for a folder without any, and for two files whose results would have the same names.
    """
    paths: dict[Path, Path] = {}
    for image in images:
        found = [image]
        if image.is_dir():
            if image.resolve() == out.resolve():
                raise InputError(f"--out {out} is the folder of the micrographs: give another, or one below it")
            found = [path for path in find_micrographs(image) if out.resolve() not in path.resolve().parents]
        paths |= {path.resolve(): path for path in found}
    if not paths:
        raise InputError(f"{', '.join(map(str, images))} holds no micrographs but those in --out {out}")
    stems: dict[str, Path] = {}
    for path in paths.values():
        other = stems.setdefault(path.stem.lower(), path)  # some file systems do not tell the cases apart
        if other is not path:
            raise InputError(f"{other} and {path} would give results of the same name: rename one, or segment it apart")
    return list(paths.values())


def segment_micrograph(
    path: Path, segmenter: Segmenter, options: argparse.Namespace, reader: Reader | None = None
) -> Result:
    """Segment one micrograph and write its files; `reader` reads its scale bar if nothing else says its pixel size.

    Raises:
        InputError: when it cannot be read or segmented.
    """
    micrograph = read_micrograph(path)
    pixels = crop_information_bar(micrograph.pixels) if options.crop_information_bar else micrograph.pixels
    pixel_size_nm, source = find_pixel_size(micrograph, options.pixel_size_nm, reader)
    segmentation = segmenter.segment(pixels, pixel_size_nm, options.score_threshold)
    write_labels(options.out / f"{path.stem}_instances.tif", segmentation.labels)
    write_csv(options.out / f"{path.stem}_particles.csv", segmentation.particles, pixel_size_nm)
    write_overlay(options.out / f"{path.stem}_overlay.png", pixels, segmentation.labels, pixel_size_nm)
    if options.imagej_rois:
        write_rois(options.out / f"{path.stem}_rois.zip", segmentation.labels)
    diameters = np.array([particle.equivalent_diameter for particle in segmentation.particles])
    row = _summarise(path, segmentation, diameters) | {"pixel_size_source": source}
    return Result(row, diameters, pixel_size_nm, segmentation.overflowing)


def find_pixel_size(micrograph: Micrograph, chosen: float | None, reader: Reader | None) -> tuple[float | None, str]:
    """Pixel size in nm and where it is from: the one chosen, the file's, its sidecar's, or the scale bar's."""
    if chosen is not None:
        return chosen, "option"
    if micrograph.pixel_size_nm is not None:
        return micrograph.pixel_size_nm, micrograph.pixel_size_source
    bar = read_scale_bar(micrograph.pixels, reader) if reader is not None else None
    if bar is None:
        return None, ""
    return bar.pixel_size_nm, f"scale bar, {bar.length_nm:g} nm on {bar.length_px:.1f} px"


def _summarise(path: Path, segmentation: Segmentation, diameters: np.ndarray) -> dict[str, str]:
    height, width = segmentation.labels.shape
    row = {
        "micrograph": path.name,
        "width_px": str(width),
        "height_px": str(height),
        "particles": str(len(diameters)),
        "covered_share": f"{np.count_nonzero(segmentation.labels) / segmentation.labels.size:.4f}",
        "overflowing_tiles": str(len(segmentation.overflowing)),
    }
    if segmentation.pixel_size_nm is not None:
        row["pixel_size_nm"] = f"{segmentation.pixel_size_nm:.6g}"
    if len(diameters):
        median = float(np.median(diameters))
        row["median_equivalent_diameter_px"] = f"{median:.6g}"
        if segmentation.pixel_size_nm is not None:
            row["median_equivalent_diameter_nm"] = f"{median * segmentation.pixel_size_nm:.6g}"
    return row


def write_summary(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a row for each micrograph, those that failed with their error. Whole or absent."""
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=SUMMARY, restval="")
        writer.writeheader()
        writer.writerows(rows)


def plot_sizes(path: Path, results: list[Result]) -> None:
    """Plot the sizes in nm if every micrograph's pixel size is known, else in px; no particles give no plot."""
    with_particles = [result for result in results if len(result.diameters)]
    if not with_particles:
        path.unlink(missing_ok=True)  # an earlier batch's would be taken for this one's
        return
    known = all(result.pixel_size_nm is not None for result in with_particles)
    diameters = [result.diameters * (result.pixel_size_nm if known else 1.0) for result in with_particles]
    write_size_plot(path, np.concatenate(diameters), "nm" if known else "px", len(results))


def list_models(options: argparse.Namespace) -> None:
    """Print the models that come with sempre: name, kind, size, and AJI+ on each set that it was scored on."""
    models = list_released()
    if not models:
        print("No models come with this sempre: make one with tools/export_onnx.py, and segment with --model BUNDLE.")
        return
    rows = [("name", "kind", "MB", "scored on", "micrographs", "AJI+")]
    for model in models:
        row = (model.name, model.bundle.kind, f"{model.size / 1e6:.1f}")
        scores = [
            (name, f"{of['micrographs']:.0f}", f"{of['aji_plus']:.3f} ± {of['std']:.3f}")
            for name, of in model.scores.items()
        ]
        first, *others = scores or [("-", "-", "-")]
        rows += [(*row, *first), *(("", "", "", *other) for other in others)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
