"""Label images: each particle's pixels hold its id, in whatever way a program stored them."""

from pathlib import Path

import h5py
import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sempre.errors import InputError
from sempre.files import ORIGIN, whole_or_absent
from sempre.images.reading.claims import MAX_PIXELS
from sempre.images.reading.formats.stacks import find_page
from sempre.images.reading.formats.tiff import check_tiff_page
from sempre.images.reading.guard import look_through
from sempre.images.reading.read import PICTURE_SUFFIXES, TIFF_SUFFIXES, one_error, open_picture, open_stacks

FLAT = 0.8  # share of neighbouring pixels of one colour in a picture whose colours are ids
# Grey pictures have more levels than this many, and little of them is flat: of the neighbouring pixels in particles few
# have one id, or each id lies in many pieces. Of real labels 0.84 and more have, and ids lie in 2 pieces at the most.
MOST_CLASSES, LEAST_SAME, SURELY_SAME, MOST_PIECES = 20, 0.5, 0.95, 10


def read_labels(path: str | Path) -> np.ndarray:
    """A label image, int32 `[H, W]`: 0 is background, ids need not be contiguous.

    The ids are the numbers as they are stored: a palette's indices, not its colours, and nothing is inverted. In a
    picture of few and flat colours each colour is an id, black the background (the commonest where there is no black).
    In a stack each page is the mask of one particle, later ones on top.

    Raises:
        InputError: for a file that cannot be read, whose pixels are not integers, a picture of shades of grey (such as
            a micrograph, depths or probabilities) or of colours, or a stack of anything but masks.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    with one_error(path):
        if suffix in TIFF_SUFFIXES:
            labels = _read_tiff(path)
        elif suffix in PICTURE_SUFFIXES:
            with open_picture(path) as image:
                labels = np.asarray(image)
        else:
            labels = _read_stack(path)
        if labels.ndim == 3:
            labels = _ids_of_colours(path, labels)
    if labels.dtype.kind not in "iub" or labels.max(initial=0) > np.iinfo(np.int32).max:
        raise InputError(f"{path} holds {labels.dtype} pixels: a label image has integer ids, 0 for background")
    if labels.min(initial=0) < 0:
        raise InputError(f"{path} has the id {labels.min()}: ids are above 0, and 0 is background")
    if labels.ndim != 2 or labels.size == 0:
        raise InputError(f"{path} has the shape {labels.shape}: a label image has [height, width]")
    labels = labels.astype(np.int32)
    _refuse_shades(path, labels)
    return labels


def _refuse_shades(path: Path, labels: np.ndarray) -> None:
    """Raise for labels `[H, W]` that are a grey picture's levels; ids as large as they like are none."""
    from skimage import measure  # slow to import, and only this needs it

    if labels.max(initial=0) <= MOST_CLASSES:
        return
    neighbours = [(labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])]
    inside = sum(np.count_nonzero((one > 0) & (other > 0)) for one, other in neighbours)
    same = sum(np.count_nonzero((one > 0) & (one == other)) for one, other in neighbours)
    if same >= SURELY_SAME * inside:
        return
    ids = np.count_nonzero(np.unique(labels) > 0)
    pieces = measure.label(labels, background=0, connectivity=2).max()
    if ids > MOST_CLASSES and (same < LEAST_SAME * inside or pieces > MOST_PIECES * ids):
        raise InputError(
            f"{path} is a picture of shades (its {ids} grey values lie in {pieces} pieces): in a label image each "
            "particle's pixels hold one number"
        )


def _read_tiff(path: Path) -> np.ndarray:
    """Stored numbers `[H, W]`, colours `[H, W, C]`, or the ids of a stack's masks `[H, W]`."""
    with tifffile.TiffFile(path) as file:
        first = file.pages.first
        check_tiff_page(path, first)
        pixels = first.asarray()
        if pixels.ndim == 3 and first.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.ndim == 3 or len(file.pages) == 1:
            return pixels
        labels = np.zeros(pixels.shape, np.int32)
        for number, page in enumerate(file.pages, start=1):
            if page.shape != pixels.shape:
                continue  # a smaller copy, for a quick look
            check_tiff_page(path, page)
            mask = page.asarray()
            if mask.min() != 0 or len(np.unique(mask)) > 2:
                raise InputError(f"page {number} of {path} is no mask: in a stack each page shows one particle, on 0")
            labels[mask != 0] = number
        return labels


def _read_stack(path: Path) -> np.ndarray:
    """Stored numbers of the first page of a file of any other format."""
    if h5py.is_hdf5(path):
        look_through(path)
    with open_stacks(path, labels=True) as stacks:
        stack, page = find_page(path, stacks, 0, MAX_PIXELS)
        return stack.read(page)


def _ids_of_colours(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Ids `[H, W]` of a picture `[H, W, C]`: of grey, grey and alpha, RGB or RGBA."""
    colours = pixels[..., : 1 if pixels.shape[-1] < 3 else 3]
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    codes = (colours.astype(np.int64) * (1 << np.array([32, 16, 0]))).sum(-1)
    flat = np.mean([np.mean(codes[1:] == codes[:-1]), np.mean(codes[:, 1:] == codes[:, :-1])])
    if flat < FLAT:
        raise InputError(
            f"{path} is a picture of shades ({flat:.0%} of neighbouring pixels have one colour): "
            "a label image has one number or one flat colour for each particle"
        )
    present, ids, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if present[0] == 0:
        return ids.reshape(codes.shape)  # black comes first
    ids = ids.reshape(codes.shape) + 1
    ids[ids == counts.argmax() + 1] = 0
    return ids


def write_labels(path: str | Path, labels: np.ndarray) -> None:
    """Write a label image `[H, W]` as a compressed TIFF: uint16, or uint32 for ids past 65,535. Whole or absent."""
    dtype = np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    with whole_or_absent(path) as partial:
        tifffile.imwrite(partial, labels.astype(dtype), compression="zlib", metadata=None, software=ORIGIN)


def write_label_png(path: str | Path, labels: np.ndarray) -> None:
    """Write a label image `[H, W]` as a PNG of 16 bits. Whole or absent.

    Raises:
        InputError: for ids past 65,535.
    """
    if labels.max(initial=0) > np.iinfo(np.uint16).max:
        raise InputError(f"{path} cannot hold {labels.max()} particles, a PNG has 16 bits: write a TIFF")
    origin = PngInfo()
    origin.add_text("Software", ORIGIN)
    with whole_or_absent(path) as partial:
        Image.fromarray(labels.astype(np.uint16)).save(partial, format="PNG", pnginfo=origin)


def write_mask_png(path: str | Path, mask: np.ndarray) -> None:
    """Write a mask bool `[H, W]` as a PNG of 0 and 255, into a folder that is made. Whole or absent."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_or_absent(path) as partial:
        Image.fromarray(mask.astype(np.uint8) * 255).save(partial, format="PNG")
