"""A network's weights in a safetensors file."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

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
