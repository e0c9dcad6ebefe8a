"""sempre: from unlabelled electron micrographs to a particle segmenter.

The names below are what notebooks and other programs may rely on (`docs/python.md`). Each is imported when it is first
used, so that `import sempre` needs no PyTorch, and neither do those that the microscope's PC uses.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
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

_FORMER = {
    "sempre.data.labels.labelled": "sempre.data.labelled",
    "sempre.data.stores.store": "sempre.data.store",
    "sempre.deploy.networks.segmenter": "sempre.deploy.segmenter",
    "sempre.embeddings.encoding.embed": "sempre.frozen.extract",
    "sempre.embeddings.encoding.encoder": "sempre.frozen.encoder",
    "sempre.images.reading.label_images": "sempre.images.label_images",
    "sempre.images.reading.read": "sempre.images.read",
    "sempre.images.synthetic": "sempre.synthetic",
    "sempre.models.masked.packed": "sempre.models.packed",
    "sempre.models.segmenters.dense": "sempre.models.dense",
    "sempre.models.segmenters.mask_rcnn": "sempre.models.mask_rcnn",
    "sempre.models.weights.checkpoints": "sempre.models.backbones",
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


class _FormerNames(MetaPathFinder, Loader):
    """Modules under the names that they had before version 0.2, for programs that were written then."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package = any(former.startswith(f"{fullname}.") for former in _FORMER)
        return ModuleSpec(fullname, self, is_package=package) if package or fullname in _FORMER else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in _FORMER:
            warnings.warn(f"{name} is {_FORMER[name]} since sempre 0.2", DeprecationWarning, stacklevel=2)
            sys.modules[name] = import_module(_FORMER[name])


sys.meta_path.append(_FormerNames())
