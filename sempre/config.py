"""A recipe's options: a dataclass of defaults, YAML files over them, `key=value` over those."""

import inspect
import re
import sys
from collections.abc import Collection
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sempre.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")
CHECKOUT = Path(__file__).parents[1]


def read_options(options_class: type[Options], arguments: list[str] | None = None) -> Options:
    """Resolve a recipe's options from the command line.

    Arguments are YAML files (read in order) and `key=value` pairs (applied after all files); `--help` prints every
    option with its default and the comment that stands beside it in the recipe, and exits.

    Raises:
        InputError: for an unknown key (naming the nearest one), a value of the wrong type, a missing file, or an
            option without default that was not given.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        print(help_text(options_class))
        sys.exit(0)
    config = OmegaConf.structured(options_class)
    known = [field.name for field in fields(options_class)]
    pairs = [argument for argument in arguments if "=" in argument]
    for path in (argument for argument in arguments if "=" not in argument):
        config = _merge(config, _read_yaml(yaml_file(path)), known, path)
    for pair in pairs:
        config = _merge(config, _read_pair(pair), known, pair)
    try:
        return cast(Options, OmegaConf.to_object(config))
    except MissingMandatoryValue as error:
        missing = [name for name in known if OmegaConf.is_missing(config, name)]
        example = " ".join(f"{name}=…" for name in missing)
        raise InputError(f"{', '.join(missing)} must be given: add {example} (see --help)") from error
    except OmegaConfBaseException as error:
        raise InputError(f"the options cannot be used: {str(error).splitlines()[0]}") from error


def yaml_file(name: str | Path) -> Path:
    """The file of a name as `configs/…`: where the command runs, else in the checkout that sempre is imported from."""
    path = Path(name)
    return CHECKOUT / path if not path.is_file() and (CHECKOUT / path).is_file() else path


def part_of(options: object, part: type[Options]) -> Options:
    """Those of a recipe's options that a dataclass of the library names, such as a network's size."""
    return part(**{field.name: getattr(options, field.name) for field in fields(part)})


def check_choices(options: object, **choices: Collection[str]) -> None:
    """Whether each of the options named has one of its choices.

    Raises:
        InputError: when not.
    """
    for name, known in choices.items():
        if (value := getattr(options, name)) not in known:
            listed = (" or " if len(known) == 2 else ", ").join(known)
            raise InputError(f"{name}={value} is unknown: choose {listed}")


def check_counts(options: object, *names: str) -> None:
    """Whether each of the options named is 1 or more.

    Raises:
        InputError: when not.
    """
    for name in names:
        if (value := getattr(options, name)) < 1:
            raise InputError(f"{name}={value} is too few: take at least 1")


def help_text(options_class: type) -> str:
    """The recipe's docstring and one line an option: name, default, and the comment beside it in the source."""
    module = sys.modules[options_class.__module__]
    sources = [inspect.getsource(ancestor) for ancestor in options_class.__mro__[:-1]]
    comments = dict(re.findall(r"^ {4}(\w+): [^#\n]*?#\s*(.+)$", "\n".join(sources), re.MULTILINE))
    lines = [(module.__doc__ or "").strip(), "", "options, as key=value or in a YAML file given before them:"]
    for field in fields(options_class):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        shown = "(required)" if default in ("???", MISSING) else f"[{default}]"
        lines.append(f"  {field.name:<22} {comments.get(field.name, '')} {shown}")
    return "\n".join(lines)


def save_options(options: object, path: str | Path) -> None:
    """Write the resolved options as YAML."""
    OmegaConf.save(OmegaConf.structured(options), path)


def changed_keys(options: object, saved: str | Path) -> list[str]:
    """Names of the options whose values differ from those saved with `save_options`, as `key: saved -> now`.

    An option that the saved file does not know, since it is newer, counts as saved with its default.

    Raises:
        InputError: for a saved file that is damaged.
    """
    now = _as_dict(OmegaConf.structured(options))
    saved_options = _read_yaml(Path(saved))
    if not isinstance(saved_options, DictConfig):
        raise InputError(f"{saved} holds no options: it is damaged, remove it or give another name=")
    before = _as_dict(OmegaConf.structured(type(options))) | _as_dict(saved_options)
    keys = sorted(set(now) | set(before), key=str)
    return [f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys if before.get(key) != now.get(key)]


def _as_dict(config: DictConfig) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config))


def _read_yaml(path: Path):
    if not path.is_file():
        raise InputError(f"{path} is neither a YAML file nor key=value")
    try:
        return OmegaConf.load(path)
    except Exception as error:  # the YAML parser's own exceptions are many
        raise InputError(f"{path} is not valid YAML: {error}") from error


def _read_pair(pair: str):
    try:
        return OmegaConf.from_dotlist([pair])
    except Exception as error:  # values are YAML too
        raise InputError(f"{pair} is not key=value with a value of YAML: {' '.join(str(error).split())}") from error


def _merge(config, update, known: list[str], source: str):
    for key in update:
        if key not in known:
            nearest = get_close_matches(str(key), known, n=1, cutoff=0.3)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known)}"
            raise InputError(f"unknown option '{key}' in {source}: {hint}")
    try:
        return OmegaConf.merge(config, update)
    except OmegaConfBaseException as error:
        raise InputError(f"{source}: {str(error).splitlines()[0]}") from error
