"""A fine-tuned dense segmenter on disk: its weights and what is needed to use them."""

from dataclasses import asdict
from pathlib import Path

import timm

from sempre.data.labels.labelled import LabelledSet
from sempre.deploy.networks.decode import Decoding
from sempre.deploy.networks.dense import DenseSettings
from sempre.errors import InputError
from sempre.models.segmenters.dense import DenseOptions, DenseSegmenter
from sempre.models.unet_encoder import WIDTHS
from sempre.models.weights.model_files import WEIGHTS, describing, read_details, save_model
from sempre.models.weights.weight_files import build_fitting


def save_dense(folder: str | Path, model: DenseSegmenter, details: dict) -> None:
    """Write `model.safetensors` and `model.json` into `folder`; each file is whole or absent, the details come last.

    Args:
        details: what JSON holds; `network` are the fields of `DenseOptions` that `model` was built with. The rest is
            for whoever uses the model: `kind`, `settings` (fields of `DenseSettings`), `percentiles`, `class_names`,
            `pixel_size_nm` and `micrograph` (the path of a micrograph to try the model on).
    """
    save_model(folder, model, details)


def describe_dense(options: DenseOptions, settings: DenseSettings, labelled: LabelledSet) -> dict:
    """What `model.json` says of a segmenter that was fitted to micrographs of `labelled`.

    Args:
        settings: how its maps are made and read.
    """
    return {
        "kind": "dense",
        "network": asdict(options),
        "settings": asdict(settings),
        "percentiles": labelled.percentiles,
        "class_names": ["particle"],
        "pixel_size_nm": labelled.common_pixel_size_nm(),
    }


def load_dense(folder: str | Path) -> tuple[DenseSegmenter, dict]:
    """The segmenter in `folder`, in evaluation mode on the CPU, and its details.

    Raises:
        InputError: for a missing or damaged file, and for weights that are not those of the network described.
    """
    folder = Path(folder)
    details = read_details(folder, "a finished run's folder, such as runs/dense/repeat-0")
    with describing(folder, "dense segmenter"):
        options = DenseOptions(**details["network"])
        if options.architecture not in WIDTHS and not timm.is_model(options.architecture):
            raise ValueError(f"'architecture' is {options.architecture!r}")
    model = build_fitting(lambda: DenseSegmenter(options), folder / WEIGHTS)
    return model.eval(), details


def read_settings(details: dict) -> DenseSettings:
    """How the model's maps are made and read, of its details.

    Raises:
        InputError: for details that do not say so.
    """
    try:
        fields = dict(details["settings"])
        return DenseSettings(
            **{**fields, "decoding": Decoding(**fields["decoding"]), "scales": tuple(fields["scales"])}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the model's details have no usable settings ({error}): fine-tune it again") from error
