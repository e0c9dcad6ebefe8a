"""sempre: from unlabelled electron micrographs to a particle segmenter.

The names below are what notebooks and other programs may rely on (`docs/python.md`). Each is imported when it is first
used, so that `import sempre` needs no PyTorch, and neither do those that the microscope's PC uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from sempre.data.labelled import LabelledSet
    from sempre.deploy.released import find_bundle
    from sempre.deploy.segmenter import Segmenter
    from sempre.errors import InputError
    from sempre.frozen.extract import embed
    from sempre.images.read import read_micrograph
    from sempre.metrics import aji_plus, error_reduction_rate, panoptic_quality
    from sempre.models.backbones import load_backbone
    from sempre.models.packed import PackedEncoder

_HOMES = {
    "InputError": "sempre.errors",
    "LabelledSet": "sempre.data.labelled",
    "PackedEncoder": "sempre.models.packed",
    "Segmenter": "sempre.deploy.segmenter",
    "aji_plus": "sempre.metrics",
    "embed": "sempre.frozen.extract",
    "error_reduction_rate": "sempre.metrics",
    "find_bundle": "sempre.deploy.released",
    "load_backbone": "sempre.models.backbones",
    "panoptic_quality": "sempre.metrics",
    "read_micrograph": "sempre.images.read",
}

__all__ = [
    "InputError",
    "LabelledSet",
    "PackedEncoder",
    "Segmenter",
    "aji_plus",
    "embed",
    "error_reduction_rate",
    "find_bundle",
    "load_backbone",
    "panoptic_quality",
    "read_micrograph",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'sempre' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from sempre.errors import how_to_install

        message = f"sempre.{name} needs {error.name}: {how_to_install('train')}"
        raise ModuleNotFoundError(message, name=error.name) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
