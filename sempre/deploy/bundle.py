"""A deployment bundle: a folder with the network, `model.onnx`, and how to use it, `model.json`.

Of a network of more than 2 GB the weights lie in a third file, `model.onnx.data`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from sempre.errors import InputError
from sempre.files import file_sha256, read_json
from sempre.segmentation.calibration import Calibration, read_calibration
from sempre.segmentation.decode import Decoding

FORMAT = 1
NAMES = ("model.onnx", "model.json")
DATA = "model.onnx.data"
LARGEST_TILE = 1 << 16  # px
FEWEST_PROPOSALS = 300  # of our configurations, for the bundles of before that do not say how many they have


@dataclass(frozen=True)
class Bundle:
    """What `model.json` says of a model of any kind.

    Grey values are mapped so that the `percentiles` of the whole micrograph become `low` and `high`, and the network
    sees it at `scale` times its size. `tile` and `overlap` are in px of what the network sees; `pixel_size_nm` is that
    of the training micrographs, None if unknown.
    """

    model: Path
    kind: str
    percentiles: tuple[float, float]
    low: float
    high: float
    scale: float
    tile: int
    overlap: int
    class_names: tuple[str, ...]
    pixel_size_nm: float | None
    sempre_version: str


@dataclass(frozen=True)
class MaskRCNNBundle(Bundle):
    """A detector: of what it sees at once it looks closer at `proposals_per_tile` boxes, which may show the same
    particle, and lists at most `detections_per_tile` particles."""

    score_threshold: float
    mask_threshold: float
    detections_per_tile: int
    proposals_per_tile: int


@dataclass(frozen=True)
class DenseBundle(Bundle):
    """A dense segmenter: it sees the micrograph at each of `scales`; its maps are read as `decoding` says. How far its
    particles can be trusted is known if it has a `calibration`."""

    scales: tuple[float, ...]
    decoding: Decoding
    calibration: Calibration | None = None


def read_bundle(folder: str | Path) -> MaskRCNNBundle | DenseBundle:
    """Read and check a bundle.

    Raises:
        InputError: for a folder or file that is missing, JSON that is damaged or says what cannot be, a format or kind
            this version does not know, and a model that is not the one described (by its SHA-256).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the bundle {folder} is not a folder: give the one that the export wrote")
    model, description = (folder / name for name in NAMES)
    for path in (model, description):
        if not path.is_file():
            raise InputError(f"the bundle {folder} has no {path.name}: copy the whole folder, or export it again")
    try:
        fields = read_json(description)
    except ValueError as error:
        raise InputError(f"{description} is no valid JSON ({error}): copy or export the bundle again") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format") if isinstance(fields, dict) else None
        raise InputError(f"{description} has the format {found!r}, this sempre reads {FORMAT}: export again or upgrade")
    kind = fields.get("kind", "mask_rcnn")  # bundles of before there were kinds do not say
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        raise InputError(f"{description} is of the kind {kind!r}, this sempre reads {known}: export again or upgrade")
    try:
        bundle = KINDS[kind](_read_shared(model, kind, fields), fields)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(f"{description} lacks or garbles {error}: export the bundle again") from error
    if file_sha256(model) != fields["sha256"]:
        raise InputError(f"{model} is not the model that {description} describes: copy the whole bundle again")
    data = folder / DATA
    if "data_sha256" in fields and not data.is_file():
        raise InputError(f"the bundle {folder} has no {DATA}, where its weights are: copy the whole folder")
    if "data_sha256" in fields and file_sha256(data) != fields["data_sha256"]:
        raise InputError(f"{data} is not the one that {description} describes: copy the whole bundle again")
    return bundle


def _read_shared(model: Path, kind: str, fields: dict) -> dict:
    """The fields of `Bundle`, checked."""
    low_percentile, high_percentile = map(float, fields["input"]["percentiles"])
    pixel_size_nm = fields["pixel_size_nm"]
    shared = {
        "model": model,
        "kind": kind,
        "percentiles": (low_percentile, high_percentile),
        "low": float(fields["input"]["low"]),
        "high": float(fields["input"]["high"]),
        "scale": float(fields["input"]["scale"]),
        "tile": int(fields["tile"]),
        "overlap": int(fields["overlap"]),
        "class_names": tuple(map(str, fields["class_names"])),
        "pixel_size_nm": None if pixel_size_nm is None else float(pixel_size_nm),
        "sempre_version": str(fields["sempre_version"]),
    }
    _check(
        {
            "sha256": isinstance(fields["sha256"], str),
            "input.percentiles": 0 <= low_percentile < high_percentile <= 100,
            "input.low": math.isfinite(shared["low"]),
            "input.high": math.isfinite(shared["high"]),
            "input.scale": 0 < shared["scale"] <= 16,
            "tile": 0 < shared["tile"] <= LARGEST_TILE,
            "overlap": 0 <= shared["overlap"] < shared["tile"],
            "pixel_size_nm": shared["pixel_size_nm"] is None or 0 < shared["pixel_size_nm"] < math.inf,
        }
    )
    return shared


def _read_mask_rcnn(shared: dict, fields: dict) -> MaskRCNNBundle:
    bundle = MaskRCNNBundle(
        **shared,
        score_threshold=float(fields["score_threshold"]),
        mask_threshold=float(fields["mask_threshold"]),
        detections_per_tile=int(fields["detections_per_tile"]),
        proposals_per_tile=int(fields.get("proposals_per_tile", FEWEST_PROPOSALS)),
    )
    _check(
        {
            "score_threshold": 0 <= bundle.score_threshold <= 1,
            "mask_threshold": 0 <= bundle.mask_threshold <= 1,
            "detections_per_tile": bundle.detections_per_tile > 0,
            "proposals_per_tile": bundle.proposals_per_tile > 0,
        }
    )
    return bundle


def _read_dense(shared: dict, fields: dict) -> DenseBundle:
    decoding = Decoding(
        foreground=float(fields["decoding"]["foreground"]),
        marker=float(fields["decoding"]["marker"]),
        smallest=int(fields["decoding"]["smallest"]),
        least_score=float(fields["decoding"]["least_score"]),
        least_depth=float(fields["decoding"]["least_depth"]),
    )
    scales = tuple(map(float, fields["scales"]))
    _check(
        {
            "scales": bool(scales) and all(0 < scale <= 16 for scale in scales),
            "decoding.foreground": 0 < decoding.foreground < 1,
            "decoding.marker": 0 < decoding.marker < 1,
            "decoding.smallest": decoding.smallest >= 1,
            "decoding.least_score": 0 <= decoding.least_score <= 1,
            "decoding.least_depth": 0 <= decoding.least_depth <= 1,
        }
    )
    calibration = read_calibration(fields["calibration"]) if fields.get("calibration") is not None else None
    return DenseBundle(**shared, scales=scales, decoding=decoding, calibration=calibration)


def _check(possible: dict[str, bool]) -> None:
    for name, holds in possible.items():
        if not holds:
            raise ValueError(f"'{name}'")


KINDS = {"dense": _read_dense, "mask_rcnn": _read_mask_rcnn}  # what reads the fields that a kind has of its own
