"""A fine-tuned detector on disk: its weights and what is needed to use them."""

from dataclasses import asdict, fields
from pathlib import Path

from torchvision.models.detection import MaskRCNN

from sempre.data.labels.labelled import LabelledSet
from sempre.images.normalise import MEAN, STD
from sempre.models.segmenters.mask_rcnn import DetectorOptions, build_mask_rcnn
from sempre.models.weights.model_files import DETAILS, WEIGHTS, describing, read_details, save_model
from sempre.models.weights.weight_files import build_fitting, check_numbers


def save_detector(folder: str | Path, model: MaskRCNN, details: dict) -> None:
    """Write `model.safetensors` and `model.json` into `folder`; each file is whole or absent, the details come last.

    Args:
        details: what JSON holds; `detector` are the fields of `DetectorOptions` that `model` was built with. The rest
            is for whoever uses the model: `normalisation`, `class_names`, `score_threshold`, `pixel_size_nm` and
            `micrograph` (the path of a micrograph to try the model on).
    """
    save_model(folder, model, details)


def describe_detector(options: DetectorOptions, scale: float, threshold: float, labelled: LabelledSet) -> dict:
    """What `model.json` says of a detector that was fitted to micrographs of `labelled`.

    Args:
        scale: it sees micrographs at this many times their size.
        threshold: detections that score less are dropped.
    """
    return {
        "detector": asdict(options),
        "normalisation": {"percentiles": labelled.percentiles, "mean": MEAN, "std": STD},
        "class_names": ["particle"],
        "scale": scale,
        "score_threshold": threshold,
        "pixel_size_nm": labelled.common_pixel_size_nm(),
    }


def load_detector(folder: str | Path) -> tuple[MaskRCNN, dict]:
    """The detector in `folder`, in evaluation mode on the CPU, and its details.

    Raises:
        InputError: for a missing or damaged file, and for weights that are not those of the detector described.
    """
    folder = Path(folder)
    details = read_details(folder, "a finished run's folder, such as runs/mask_rcnn/repeat-0")
    with describing(folder, "detector"):
        known = {field.name for field in fields(DetectorOptions)}
        options = DetectorOptions(**{name: value for name, value in details["detector"].items() if name in known})
    check_numbers(asdict(options), folder / DETAILS)
    model = build_fitting(lambda: build_mask_rcnn(options), folder / WEIGHTS)
    return model.eval(), details
