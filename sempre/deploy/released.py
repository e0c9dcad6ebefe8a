"""The bundles that come with sempre: folders of `sempre/released/`."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sempre.deploy.bundle import NAMES, Bundle, read_bundle
from sempre.errors import InputError
from sempre.files import read_json
from sempre.released import DEFAULT


@dataclass(frozen=True)
class Released:
    """A bundle that comes with sempre: `size` in bytes of its network; `scores` by the name of a set, each a dict of
    `aji_plus` (mean), `std` and the number of `micrographs`, empty if it brings none."""

    name: str
    bundle: Bundle
    size: int
    scores: dict[str, dict[str, float]]


def released_root() -> Path:
    """The folder with a bundle in each folder."""
    return Path(str(resources.files("sempre.released")))


def released_names() -> list[str]:
    """The names of the bundles that come with sempre, sorted."""
    root = released_root()
    if not root.is_dir():
        return []
    return sorted(folder.name for folder in root.iterdir() if all((folder / name).is_file() for name in NAMES))


def list_released() -> list[Released]:
    """The bundles that come with sempre, by name.

    Raises:
        InputError: for one that is damaged.
    """
    listed = []
    for name in released_names():
        folder = released_root() / name
        bundle = read_bundle(folder)
        listed.append(Released(name, bundle, bundle.model.stat().st_size, read_scores(folder / "scores.json")))
    return listed


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """The scores of a bundle by the name of the set; none if there is no such file.

    Raises:
        InputError: for a file that holds something else.
    """
    if not path.is_file():
        return {}
    try:
        return {
            str(name): {key: float(scores[key]) for key in ("aji_plus", "std", "micrographs")}
            for name, scores in read_json(path).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no scores ({error}): install sempre again, or remove the file") from error


def find_bundle(model: str | Path | None = None) -> Path:
    """The folder of a bundle: the one given, or the one that comes with sempre under that name; None is `DEFAULT`'s.

    Raises:
        InputError: when there is none.
    """
    names = released_names()
    if model is None:
        if DEFAULT not in names:
            raise InputError(f"this sempre comes without the model '{DEFAULT}': give your bundle's folder by --model")
        return released_root() / DEFAULT
    if Path(model).is_dir():
        return Path(model)
    if str(model) in names:
        return released_root() / model
    known = ", ".join(names) or "none"
    raise InputError(f"{model} is not a folder, nor a model that comes with sempre ({known}): give either")


def find_weights(model: str) -> Path:
    """The folder of weights to go on training from: the one given, or that of the model that comes with sempre.

    Raises:
        InputError: when there is none.
    """
    if Path(model).is_dir():
        return Path(model)
    weights = released_root() / model / "weights"
    if not weights.is_dir():
        known = ", ".join(name for name in released_names() if (released_root() / name / "weights").is_dir()) or "none"
        raise InputError(f"{model} is not a folder, nor a model whose weights come with sempre ({known}): give either")
    return weights
