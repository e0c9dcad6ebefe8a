"""A finished model's folder: its weights in safetensors, and JSON that describes the network and its use."""

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def describing(folder: str | Path, what: str) -> Iterator[None]:
    """For a block that reads what `model.json` in `folder` says of a network.

    Raises:
        InputError: in place of what the block raises where that describes no `what`.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{Path(folder) / DETAILS} describes no {what} ({error}): fine-tune it again") from error
