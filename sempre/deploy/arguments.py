"""The arguments of `sempre segment`, `measure` and `statistics`, and what values such as 2.5nm, 3/8 or a page mean."""

import argparse
import math
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sempre.deploy.formats import SUFFIXES, USUAL
from sempre.deploy.session import PROVIDERS
from sempre.errors import InputError
from sempre.released import DEFAULT

if TYPE_CHECKING:
    from sempre.images import PixelSize
    from sempre.sizes.analysis import Choices


class Command(argparse.ArgumentParser):
    """The arguments of one command; an option that it does not have is told with the nearest that it has."""

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        known = re.findall(r"--[\w-]+", self.format_usage())
        for argument in args or ():
            name = argument.partition("=")[0]
            if argument == "--":
                break
            if name.startswith("--") and name != "--help" and not any(option.startswith(name) for option in known):
                nearest = get_close_matches(name, known, n=1)
                self.error(f"{name} is no option" + (f": did you mean {nearest[0]}?" if nearest else ", see --help"))
        return super().parse_known_args(args, namespace)


def add_segment(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `sempre segment`."""
    command.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="a micrograph, a folder of them, or a pattern as in '*.tif'",
    )
    command.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the results go")
    command.add_argument(
        "--model",
        help=f"a bundle's folder, or the name of a model that comes with sempre (default: {DEFAULT})",
    )
    command.add_argument(
        "--format",
        metavar="LIST",
        help=f"what is written of each micrograph, some of {','.join(SUFFIXES)} (default: {','.join(USUAL)}): label"
        " image as TIFF or PNG, table, picture with outlines and numbers, outlines for ImageJ's ROI manager; a picture"
        " that is asked for has the micrograph's full size, however large",
    )
    command.add_argument("--imagej-rois", action="store_true", help="write NAME_rois.zip too, as rois in --format does")
    command.add_argument("--overwrite", action="store_true", help="segment again what is done already")
    command.add_argument(
        "--pixel-size",
        metavar="SIZE",
        help="of all micrographs, as in 2.5nm, 0.01um or, for pixels that are not square, 2.5x5nm (width, then height),"
        " instead of what the files say",
    )
    command.add_argument("--pixel-size-nm", type=float, metavar="NM", help="the same as a number of nm")
    command.add_argument(
        "--scale",
        type=float,
        metavar="TIMES",
        help="how many times its size the network sees a micrograph at (default: the best of the model's own; a model"
        " of one magnification is brought to the pixel size of its training)",
    )
    command.add_argument(
        "--page",
        metavar="N",
        help="of a file that holds several pictures the one meant, counted from 1, or all (default: the first that is"
        " no thumbnail; the middle slice of an Imaris volume): the names of results end in _p0001 and so on",
    )
    command.add_argument("--crop-information-bar", action="store_true", help="leave out the bar below the micrograph")
    command.add_argument(
        "--scale-bar",
        action=argparse.BooleanOptionalAction,
        help="read the burnt-in scale bar where the files say no pixel size (default: if the extra ocr is installed)",
    )
    command.add_argument(
        "--score-threshold", type=float, metavar="SCORE", help="0 to 1: higher finds fewer, surer particles"
    )
    command.add_argument("--flips", action="store_true", help="average over mirror images: a little better, slower")
    command.add_argument(
        "--tile", type=int, metavar="PX", help="side of the pieces of a large micrograph: smaller takes less memory"
    )
    command.add_argument("--threads", type=int, metavar="N", help="processor threads for the network (default: all)")
    command.add_argument("--provider", choices=PROVIDERS, default="cpu", help="what the network runs by (default: cpu)")
    command.add_argument(
        "--device", metavar="NAME", help="of the provider: a GPU's number for cuda; CPU, GPU or NPU for openvino"
    )
    command.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that share the micrographs, the threads and, with"
        " --provider cuda, the GPUs: one each, or those that --device 0,1,3 names (default: 1)",
    )
    command.add_argument(
        "--shard",
        metavar="K/N",
        help="only the K-th of N shares of the micrographs, from 1/N to N/N, for jobs on several computers; the same"
        " command without it joins their summaries",
    )
    command.add_argument(
        "--watch",
        action="store_true",
        help="go on with the micrographs that arrive in the folders, until Ctrl-C; the plot of sizes comes at the end",
    )
    command.add_argument(
        "--settle",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="with --watch: a file must have stayed the same for so long, and can be read as a whole (default: 5)",
    )
    add_report(command)


def add_measure(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `sempre measure`."""
    command.add_argument("labels", nargs="+", type=Path, metavar="LABELS", help="a label image, or a folder of them")
    command.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the results go")
    command.add_argument(
        "--pixel-size", metavar="SIZE", help="as in 2nm or 2.5x5nm; default: what the micrographs beside them say"
    )
    command.add_argument(
        "--components", action="store_true", help="each separate piece is a particle, as in masks of 0 and 255"
    )
    add_choices(command)


def add_statistics(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `sempre statistics`."""
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="what a batch wrote")
    command.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the statistics go")
    command.add_argument(
        "--by",
        choices=("all", "folder", "subfolder"),
        default="all",
        help="what a sample is: all together, each FOLDER, or each folder in them (default: all)",
    )
    command.add_argument("--groups", type=Path, metavar="CSV", help="which micrograph belongs to which sample")
    add_choices(command)


def add_report(command: argparse.ArgumentParser) -> None:
    """Add the option that asks for further forms of the report."""
    command.add_argument("--report", action="store_true", help="write report.pdf and report.xlsx beside report.html")


def add_choices(command: argparse.ArgumentParser) -> None:
    """Add the options that say how a sample is evaluated."""
    add_report(command)
    command.add_argument(
        "--rule",
        choices=("weighted", "all"),
        default="weighted",
        help="weighted: particles that a border cuts are left out, and the others count for as many as their size"
        " makes likely (Miles-Lantuéjoul); all: every particle counts for one, with its visible size. The report shows"
        " both (default: weighted)",
    )
    command.add_argument(
        "--smallest",
        type=float,
        default=0.0,
        metavar="PX",
        help="particles of a smaller equivalent diameter are left out, and counted (default: 0)",
    )
    command.add_argument(
        "--pixel-size-uncertainty",
        type=float,
        metavar="PERCENT",
        help="of your calibration, one standard deviation (default: by the source, 1.7 for a microscope's own scale)",
    )


def read_choices(options: argparse.Namespace) -> "Choices":
    """How a sample is evaluated.

    Raises:
        InputError: for a size or an uncertainty that cannot be.
    """
    from sempre.sizes.analysis import Choices

    if not 0 <= options.smallest < math.inf:
        raise InputError(f"--smallest {options.smallest:g} is no size: give px, 0 or above")
    uncertainty = options.pixel_size_uncertainty
    if uncertainty is not None and not 0 <= uncertainty < 100:
        raise InputError(f"--pixel-size-uncertainty {uncertainty:g} is none: give per cent, 0 or above and below 100")
    return Choices(options.rule, options.smallest, None if uncertainty is None else uncertainty / 100)


def parse_pixel_size(text: str) -> "PixelSize":
    """nm per px of a length with its unit, as in "2.5nm", "0.01 µm" or "3.2 Å", or of two, x and y, as in "2.5x5nm".

    Raises:
        InputError: for anything else.
    """
    from sempre.images.pixel_size import as_pixel_size, length_nm

    parts = re.split(r"\s*[x×]\s*", text)
    unit = re.sub(r"^[\d\s.,]+(?:[eE][-+]?\d+)?", "", parts[-1])
    sides = [length_nm(part if re.search(r"[^\W\d]\s*$", part) else part + unit) or 0.0 for part in parts]
    if len(sides) > 2 or not all(0 < side < math.inf for side in sides):
        raise InputError(
            f"--pixel-size {text} is no size: give a length above 0 with its unit, as in 2.5nm, 0.01um or 2.5x5nm"
        )
    size = as_pixel_size((sides[0], sides[-1]))
    assert size is not None  # as its sides are numbers
    return size


def parse_pages(text: str | None) -> int | Literal["all"] | None:
    """A page's number, counted from 1, or "all"; None where nobody says.

    Raises:
        InputError: for anything else.
    """
    if text is None:
        return None
    if text.strip().lower() == "all":
        return "all"
    if not re.fullmatch(r"\s*0*[1-9]\d{0,8}\s*", text, re.ASCII):
        raise InputError(f"--page {text} is none: give a number, counted from 1, or all")
    return int(text)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """(k, n) of a share "k/n", counted from 1; None where nobody says.

    Raises:
        InputError: for anything else.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(
            f"--shard {text} is no share: give K/N with K from 1 to N, as in 3/8 (--array=1-8 of a Slurm job)"
        )
    return int(found[1]), int(found[2])
