"""A finished model's folder: its weights in safetensors, and JSON that describes the network and its use."""

from pathlib import Path

from torch import nn

from sempre.errors import InputError
from sempre.files import read_json, write_json
from sempre.models.weights.weight_files import save_weights

WEIGHTS, DETAILS = "model.safetensors", "model.json"


def save_model(folder: str | Path, model: nn.Module, details: dict) -> None:
    """Write the weights and the details; each file is whole or absent, the details come last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / WEIGHTS)
    write_json(folder / DETAILS, details)


def read_details(folder: str | Path, example: str) -> dict:
    """What `model.json` says in a folder that holds a model.

    Raises:
        InputError: for a folder without a model, with `example` as one that has it, and for damaged JSON.
    """
    folder = Path(folder)
    for name in (WEIGHTS, DETAILS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}: name {example}")
    try:
        return dict(read_json(folder / DETAILS))
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder / DETAILS} is damaged ({error}): copy it again") from error
