"""Label images: each particle's pixels hold its id, in whatever way a program stored them."""

from pathlib import Path

import h5py
import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sempre.errors import InputError, warn
from sempre.files import ORIGIN, read_json, whole_or_absent
from sempre.images.claims import MAX_PIXELS, check_size
from sempre.images.instances import decode_rle
from sempre.images.read import (
    PICTURE_SUFFIXES,
    STACK_SUFFIXES,
    TIFF_SUFFIXES,
    one_error,
    open_picture,
    open_stacks,
)
from sempre.images.stacks import find_page
from sempre.images.tiff import check_tiff_page

FLAT = 0.8  # share of neighbouring pixels of one colour in a picture whose colours are ids
# Grey pictures have more levels than this many, and little of them is flat: of the neighbouring pixels in particles few
# have one id, or each id lies in many pieces. Of real labels 0.84 and more have, and ids lie in 2 pieces at the most.
MOST_CLASSES, LEAST_SAME, SURELY_SAME, MOST_PIECES = 20, 0.5, 0.95, 10
SPECK = 0.05  # of an id's largest piece: smaller pieces are slips of the brush
LOSSY = {".jpg", ".jpeg"}
VOID, VOID_COLOUR = 255, (224, 224, 192)  # of Pascal VOC: what lies between particles and background belongs to neither
# Folders of which it has been told that particles lie in several pieces, as what others hide does.
_told: set[Path] = set()


def read_labels(path: str | Path, components: bool | None = None) -> np.ndarray:
    """A label image, int32 `[H, W]`: 0 is background, ids need not be contiguous.

    The ids are the numbers as they are stored: a palette's indices, not its colours, and nothing is inverted. Floats
    are read where they are whole numbers, as ImageJ saves more than 65,535 ids; NaN is background. In a picture of few
    and flat colours each colour is an id, black the background (the commonest where there is no black); so are the
    transparent pixels of a PNG. In a picture of Pascal VOC's colours the rims of its colour for "void" are background.
    In a stack each page is the mask of one particle, later ones on top. A `.npy` file holds the array of ids.

    Args:
        components: True makes a particle of each piece of an id's pixels, False refuses masks as
            `separate_instances` does, None leaves ids as they are, as suits what only asks where particles are.

    Raises:
        InputError: for a file that cannot be read, whose pixels are not whole numbers, a picture of shades of grey
            (such as a micrograph, depths or probabilities) or of colours, a JPEG, or a stack of anything but masks.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    with one_error(path):
        if suffix in TIFF_SUFFIXES:
            labels = _read_tiff(path)
        elif suffix in LOSSY:
            raise InputError(f"{path} is a JPEG, which changes the numbers that ids are: save labels as PNG or TIFF")
        elif suffix in PICTURE_SUFFIXES:
            with open_picture(path) as image:
                labels = _stored_ids(image)
        elif suffix == ".npy":
            labels = _read_array(path)
        elif suffix in STACK_SUFFIXES:
            labels = _read_stack(path)
        else:
            raise InputError(f"{path} has the suffix '{suffix}', which no label image has: save labels as TIFF or PNG")
        if labels.ndim == 3:
            labels = _ids_of_colours(path, labels)
    if labels.dtype.kind == "f":
        labels = _whole_numbers(path, labels)
    if labels.dtype.kind not in "iub" or labels.max(initial=0) > np.iinfo(np.int32).max:
        raise InputError(f"{path} holds {labels.dtype} pixels: a label image has integer ids, 0 for background")
    if labels.min(initial=0) < 0:
        raise InputError(f"{path} has the id {labels.min()}: ids are above 0, and 0 is background")
    if labels.ndim != 2 or labels.size == 0:
        raise InputError(f"{path} has the shape {labels.shape}: a label image has [height, width]")
    labels = labels.astype(np.int32)
    _refuse_shades(path, labels)
    return labels if components is None else separate_instances(path, labels, components)


def _stored_ids(image: Image.Image) -> np.ndarray:
    """The numbers of a picture as they are stored, `[H, W]` or `[H, W, C]`, 0 where it is transparent or VOC's void."""
    ids = np.asarray(image)
    if image.mode in ("LA", "RGBA") and ids[..., -1].any():
        ids = np.where(ids[..., -1:] > 0, ids, 0)
    if image.mode == "P" and tuple((image.getpalette("RGB") or [])[3 * VOID :]) == VOID_COLOUR:
        ids = np.where(ids == VOID, 0, ids)
    return ids


def voc_colours() -> np.ndarray:
    """The palette of Pascal VOC's label images, uint8 `[256, 3]`: bit k of an index is bit 7 - k // 3 of a colour."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((index >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


def _read_array(path: Path) -> np.ndarray:
    """The array of a `.npy` file, without its pickles: those of cellpose's `_seg.npy` could run any program."""
    try:
        labels = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InputError(
            f"{path} is no array of numbers but a Python pickle, which is not opened because it could run any program: "
            "save the masks as TIFF or PNG (in cellpose: File > Save masks)"
        ) from error
    check_size(path, (*labels.shape, 1, 1)[:2])
    return np.array(labels)


def _whole_numbers(path: Path, labels: np.ndarray) -> np.ndarray:
    """Floats as int64, NaN as 0.

    Raises:
        InputError: for one that is no whole number, or too large to be an id.
    """
    labels = np.where(np.isnan(labels), 0, labels)
    odd = ~np.isfinite(labels) | (labels != np.rint(labels))
    if odd.any():
        raise InputError(
            f"{path} holds {labels.dtype} pixels, {labels[odd].flat[0]:g} among them: a label image has "
            "integer ids, 0 for background"
        )
    if float(labels.max(initial=0)) > np.iinfo(np.int32).max:
        raise InputError(f"{path} has the id {labels.max():g}: ids are at most {np.iinfo(np.int32).max:,}")
    return labels.astype(np.int64)


def separate_instances(path: str | Path, labels: np.ndarray, components: bool = False) -> np.ndarray:
    """A label image `[H, W]` in which each id is a particle, or with `components` one in which each piece of an id is.

    A piece is 8-connected; pieces of an id of less than `SPECK` of its largest are not counted. Ids that lie in several
    pieces are told.

    Raises:
        InputError: for a mask, whose only id lies in several pieces; for classes, of which each lies in more than
            `MOST_PIECES`; for a mask whose background has an id, and for one with blended edges, also with
            `components`. `path` is named.
    """
    pieces, counts = find_pieces(labels)
    if not counts:
        return labels
    _refuse_inverted(path, labels, counts)
    _refuse_blended(path, labels)
    if components:
        return pieces
    many = max(counts, key=lambda number: counts[number])
    advice = "number the particles, or say components=true (--components) where each piece is one"
    if len(counts) == 1 and counts[many] > 1:
        raise InputError(
            f"{path} is a mask: its only id, {many}, lies in {counts[many]} pieces, but in a label image each particle "
            f"has its own number: {advice}"
        )
    if sum(counts.values()) > MOST_PIECES * len(counts):
        raise InputError(
            f"{path} has {len(counts)} ids in {sum(counts.values())} pieces, as a map of classes has, but in a label "
            f"image each particle has its own number: {advice}"
        )
    several = [number for number, count in counts.items() if count > 1]
    folder = Path(path).parent
    if several and folder not in _told:
        _told.add(folder)
        warn(
            f"{path}: {len(several)} of {len(counts)} particles lie in several pieces, the particle {many} in "
            f"{counts[many]}: {advice} (told once a folder)"
        )
    return labels


def find_pieces(labels: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
    """The pieces of a label image, numbered from 1, int32 `[H, W]`; and of each id in how many it lies."""
    from skimage import measure  # slow to import, and only this needs it

    pieces = np.asarray(measure.label(labels, background=0, connectivity=2), np.int32)
    areas = np.bincount(pieces.ravel())
    id_of = np.zeros(len(areas), np.int64)
    id_of[pieces.ravel()] = labels.ravel()
    order = np.lexsort((-areas[1:], id_of[1:])) + 1
    largest: dict[int, int] = {}
    counts: dict[int, int] = {}
    for piece in order.tolist():
        number, area = int(id_of[piece]), int(areas[piece])
        if area >= SPECK * largest.setdefault(number, area):
            counts[number] = counts.get(number, 0) + 1
    return pieces, counts


def _refuse_inverted(path: str | Path, labels: np.ndarray, counts: dict[int, int]) -> None:
    """Raise where one id is what lies around the particles: background must be 0."""
    from scipy import ndimage

    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    numbers, pixels = np.unique(border, return_counts=True)
    around = int(numbers[pixels.argmax()])
    if not around or np.mean(border == around) <= 0.5 or (labels == around).mean() <= 0.25:
        return
    if len(counts) > 1:
        outside = labels == around
        inverted = not (labels == 0).any() and bool((ndimage.binary_fill_holes(outside) & ~outside).any())
    else:
        _, inside = find_pieces((labels == 0).astype(np.int32))
        inverted = inside.get(1, 0) > 1
    if inverted:
        raise InputError(f"{path} has the id {around} around its particles: background must be 0, exchange the numbers")


def _refuse_blended(path: str | Path, labels: np.ndarray) -> None:
    """Raise for a mask that was resized or smoothed: most of its ids are rims, without a pixel inside."""
    ids = np.unique(labels[labels > 0])
    if len(ids) <= MOST_CLASSES:
        return
    inside = np.zeros(labels.shape, bool)
    middle = labels[1:-1, 1:-1]
    inside[1:-1, 1:-1] = (
        (middle > 0)
        & (middle == labels[:-2, 1:-1])
        & (middle == labels[2:, 1:-1])
        & (middle == labels[1:-1, :-2])
        & (middle == labels[1:-1, 2:])
    )
    values, pixels = np.unique(labels[inside], return_counts=True)
    if len(values) and len(values) < 0.1 * len(ids) and pixels.max() > 0.8 * pixels.sum():
        raise InputError(
            f"{path} is a mask with blended edges ({len(ids)} grey values, most of them in rims): "
            "resize and save masks without smoothing, as numbers"
        )


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
        from sempre.images.hdf5_guard import look_through  # here, for most labels are pictures

        look_through(path)
    with open_stacks(path, labels=True) as stacks:
        stack, page = find_page(path, stacks, 0, MAX_PIXELS)
        return stack.read(page)


def _ids_of_colours(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Ids `[H, W]` of a picture `[H, W, C]`: of grey, grey and alpha, RGB or RGBA."""
    colours = pixels[..., : 1 if pixels.shape[-1] < 3 else 3]
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    if (void := (colours == VOID_COLOUR).all(axis=-1)).any() and _are_voc_colours(colours):
        colours = np.where(void[..., None], 0, colours)
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


def _are_voc_colours(colours: np.ndarray) -> bool:
    """Whether all pixels `[H, W, 3]` have colours of Pascal VOC's palette, from its first on as many as there are."""
    present = np.unique(colours.reshape(-1, 3), axis=0)
    first = {tuple(map(int, colour)) for colour in voc_colours()[: len(present)]} | {VOID_COLOUR}
    return {tuple(map(int, colour)) for colour in present} <= first


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


def read_instances(file: Path) -> tuple[np.ndarray | list[np.ndarray], list[float] | None]:
    """A label image int32 `[H, W]`; or of a `.json` file bool masks `[H, W]` and, where all have one, their scores.

    The JSON holds `{"size": [H, W], "instances": [{"counts": […], "score": …}]}`, run lengths as COCO's.

    Raises:
        InputError: for a file that is neither.
    """
    if file.suffix.lower() != ".json":
        return read_labels(file), None
    try:
        content = read_json(file)
        height, width = map(int, content["size"])
        check_size(file, (height, width))
        instances = content["instances"]
        masks = [decode_rle({"size": (height, width), "counts": instance["counts"]}) for instance in instances]
        scored = all("score" in instance for instance in instances)
        return masks, [float(instance["score"]) for instance in instances] if scored else None
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except (ValueError, OverflowError, KeyError, TypeError) as error:
        raise InputError(f"{file} holds no run lengths ({error!r}): it takes size and instances with counts") from error
