"""Files of weights and of finished models, and networks for colour made grey."""

import argparse
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sempre.errors import InputError
from sempre.files import read_json, whole_or_absent, write_json
from sempre.images.normalise import MEAN, STD

Network = TypeVar("Network", bound=nn.Module)

LARGEST_SIZE = 1 << 14  # channels, layers, px of an image that a network is for


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


def build_fitting(build: Callable[[], Network], path: str | Path) -> Network:
    """A network with the weights in a file of ours; none of its memory is taken before the two are seen to agree.

    Args:
        build: makes the network that the file beside the weights describes.

    Raises:
        InputError: when what is described cannot be built, and as `load_weights` does.
    """
    try:
        with safe_open(path, "pt") as file:
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        with torch.device("meta"):
            described = {name: tuple(weight.shape) for name, weight in build().state_dict().items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is damaged ({_first_line(error)}): make or copy it again") from error
    except InputError:
        raise
    except Exception as error:  # what cannot be built fails in every way there is
        raise InputError(
            f"what {path} are the weights of cannot be built ({_first_line(error)}): copy it again"
        ) from error
    if stored != described:
        other = min(name for name in stored.keys() | described.keys() if stored.get(name) != described.get(name))
        raise InputError(f"{path} is damaged or another network's ({other} differs): make or copy it again")
    network = build()
    load_weights(network, path)
    return network


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load the state dict; every parameter must be there, with its shape.

    Raises:
        InputError: when the file is damaged or belongs to another network.
    """
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{path} is damaged or another network's ({_first_line(error)}): make or copy it again"
        ) from error


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
        raise InputError(
            f"{path} is damaged or holds more than weights ({_first_line(error)}): copy it again"
        ) from error


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


def check_numbers(values: Mapping[str, object], path: Path) -> None:
    """Refuse sizes of a network that no network has, for building one of so many layers would never end.

    Raises:
        InputError: for an integer below 0 or above `LARGEST_SIZE`.
    """
    for name, value in values.items():
        if isinstance(value, int) and not 0 <= value <= LARGEST_SIZE:
            raise InputError(f"{path} says {name}={value}, which no network has: copy it again")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


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


def grey_stem(
    weight: Tensor, bias: Tensor | None, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """A colour stem `[C, 3, p, p]`, `[C]` as one for micrographs: `[C, 1, p, p]`, `[C]`.

    A grey image is a colour image of three equal channels, to which the sum of the kernels answers as the three do; the
    mean would answer a third of it. The network was trained on levels normalised channel by channel with `mean` and
    `std`, ours are normalised with `MEAN` and `STD`: kernels and bias take up the difference. So the network answers to
    a micrograph exactly as the original does to the grey picture.
    """
    means, stds = (weight.new_tensor(values)[:, None, None] for values in (mean, std))
    shift = (weight * (MEAN - means) / stds).sum((1, 2, 3))
    return (weight * STD / stds).sum(1, keepdim=True), shift if bias is None else bias + shift


@torch.no_grad()
def to_one_channel(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Make a network for colour images take one channel of our normalisation, by `grey_stem`.

    The network is changed in place, and returned; `mean` and `std` are of the channels that it took. What the stem's
    bias has to take up goes into the batch normalisation behind it where the stem has no bias. Within the stem's
    padding the answers differ where `mean` is not ours, for zeros stand for another grey there.

    Raises:
        ValueError: for a network whose first convolution does not take as many channels as `mean` has.
    """
    modules = list(network.modules())
    place = next(index for index, module in enumerate(modules) if isinstance(module, nn.Conv2d))
    stem, behind = modules[place], modules[place + 1] if place + 1 < len(modules) else None
    assert isinstance(stem, nn.Conv2d)
    if stem.in_channels != len(mean):
        raise ValueError(f"the first convolution takes {stem.in_channels} channels, not {len(mean)}")
    weight, shift = grey_stem(stem.weight, stem.bias, mean, std)
    stem.weight, stem.in_channels = nn.Parameter(weight), 1
    if stem.bias is not None:
        stem.bias.copy_(shift)
    elif isinstance(behind, nn.BatchNorm2d) and behind.running_mean is not None:
        behind.running_mean -= shift
    return network
