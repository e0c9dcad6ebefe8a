"""Files of weights: our own, in safetensors, and the `.pth` files of other code."""

import argparse
import zipfile
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sempre.errors import InputError
from sempre.files import whole_or_absent


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the state dict; the file is whole or absent.

    Raises:
        InputError: when it cannot be written, on a full disk for example.
    """
    weights = {name: weight.detach().cpu().contiguous() for name, weight in network.state_dict().items()}
    try:
        with whole_or_absent(path) as partial:
            save_file(weights, partial, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot save {path} ({error}): free some space, then start the same command again") from error


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load the state dict; every parameter must be there, with its shape.

    Raises:
        InputError: when the file is damaged or belongs to another network.
    """
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is damaged or another network's ({reason}): make or copy it again") from error


def read_pth(path: Path, code: str) -> object:
    """What a `.pth` file of other code, which `code` names, holds; nothing in it is executed.

    Raises:
        InputError: when it is missing, damaged, or holds more than weights.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a weight file of {code}")
    try:
        # Mapped, what is not needed is never read; files from before PyTorch 1.6 cannot be.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged archive or pickle raises errors of many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged or holds more than weights ({reason}): copy it again") from error


def only_tensors(content: object, path: Path, code: str) -> dict[str, Tensor]:
    """The tensors of a state dict.

    Raises:
        InputError: when `content` is none.
    """
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path} holds no state dict: give a weight file of {code}")
    return {name: weight for name, weight in content.items() if isinstance(weight, Tensor)}


def check_parameters(
    weights: dict[str, Tensor], expected: dict[str, Tensor], path: str | Path, unused: Collection[str] = ()
) -> None:
    """Whether `weights` are those of a network whose state dict is `expected`; those named `unused` may be there too.

    Raises:
        InputError: when one is missing, has another shape, or is of no use.
    """
    advice = "choose the architecture that it was trained with"
    for name, weight in expected.items():
        if name not in weights:
            raise InputError(f"{path} is another network's, it has no {name}: {advice}")
        if weights[name].shape != weight.shape:
            shapes = f"{list(weights[name].shape)}, not {list(weight.shape)}"
            raise InputError(f"{path} is another network's, its {name} is {shapes}: {advice}")
    surplus = weights.keys() - expected.keys() - set(unused)
    if surplus:
        raise InputError(f"{path} is another network's, it also has {min(surplus)}: {advice}")
