"""A recipe's options: a dataclass of defaults, YAML files over them, `key=value` over those."""

import inspect
import re
import sys
from dataclasses import MISSING, asdict, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin

import yaml
from omegaconf import OmegaConf

from sempre.errors import InputError
from sempre.ranges import check_ranges, rules_of, words_of
from sempre.recipes import FOLDER

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")
REQUIRED = "???"  # the default of an option that must be given, as OmegaConf writes it
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def read_options(options_class: type[Options], arguments: list[str] | None = None) -> Options:
    """Resolve a recipe's options from the command line.

    Arguments are YAML files (read in order) and `key=value` pairs (applied after all files). A text is what stands
    behind `=`, character by character; `parse_value` reads numbers and lists. Values in files follow YAML's rules.
    `--help` prints every option with the comment beside it in the recipe, its range and its default, and exits.

    Raises:
        InputError: for an unknown key (naming the nearest one), a value of the wrong type or out of its range, a
            missing file, or an option without default that was not given.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        print(help_text(options_class))
        sys.exit(0)
    known = [field.name for field in fields(options_class)]
    pairs, files = [], []
    for argument in arguments:
        key = argument.partition("=")[0]
        is_file = "=" not in argument or (key not in known and Path(argument).is_file())
        (files if is_file else pairs).append(argument)
    kinds = {name: kind for name, (kind, _) in rules_of(options_class).items()}
    values = _defaults(options_class)
    for path in files:
        for key, value in read_yaml(yaml_file(path)).items():
            _check_key(key, known, path)
            values[key] = _converted(f"{path}: {key}={value}", value, kinds[key])
    for pair in pairs:
        key, _, text = pair.partition("=")
        _check_key(key, known, pair)
        values[key] = parse_value(key, text, kinds[key])
    if missing := [name for name in known if values[name] == REQUIRED]:
        example = " ".join(f"{name}=…" for name in missing)
        raise InputError(f"{', '.join(missing)} must be given: add {example} (see --help)")
    options = options_class(**values)
    check_ranges(options)
    return options


def parse_value(name: str, text: str, kind: Any) -> Any:
    """The value of an option of type `kind` that is given as text.

    Text stays as it is. Whole numbers and floats are written as Python reads them; a list is `[a,b]`, its items taken
    in the same way: commas inside brackets and quotes part none, and quotes around an item are taken off. A dict is
    `{a: 1, b: 2}`.

    Raises:
        InputError: for a text that is none.
    """
    if kind is str:
        return text
    if get_origin(kind) is list:
        (item_kind,) = get_args(kind)
        return [parse_value(name, item, item_kind) for item in _items(name, text)]
    if get_origin(kind) is dict:
        _, item_kind = get_args(kind)
        parts = [item.partition(":") for item in _items(name, text, "{}")]
        return {_unquoted(key.strip()): parse_value(name, value.strip(), item_kind) for key, _, value in parts}
    if get_origin(kind) is UnionType:  # a number or none
        number = next(part for part in get_args(kind) if part is not type(None))
        return None if text in ("null", "none") else parse_value(name, text, number)
    if kind is bool:
        if text.lower() in (*TRUE, *FALSE):
            return text.lower() in TRUE
        raise InputError(f"{name}={text} is neither true nor false: give one of them")
    try:
        return kind(text)
    except ValueError as error:
        wanted = "whole number" if kind is int else "number"
        raise InputError(f"{name}={text} has a wrong value: '{text}' is no {wanted}") from error


def yaml_file(name: str | Path) -> Path:
    """The file of a name as `configs/…`: where the command runs, else beside the recipes that come with sempre."""
    path = Path(name)
    return FOLDER / path if not path.is_file() and (FOLDER / path).is_file() else path


def read_yaml(path: Path) -> dict[str, Any]:
    """The options in a YAML file, of the types that YAML gives them.

    Raises:
        InputError: for a file that is missing, or holds no options.
    """
    if not path.is_file():
        raise InputError(f"{path} is neither a YAML file nor key=value")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except Exception as error:  # the YAML parser's own exceptions are many, and OmegaConf's
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no options: write a line `option: value` for each")
    return cast(dict[str, Any], content)


def part_of(options: object, part: type[Options]) -> Options:
    """Those of a recipe's options that a dataclass of the library names, such as a network's size."""
    return part(**{field.name: getattr(options, field.name) for field in fields(part)})


def help_text(options_class: type) -> str:
    """The recipe's docstring and one line an option: its name, words, range and default."""
    module = sys.modules[options_class.__module__]
    lines = [(module.__doc__ or "").strip(), "", "options, as key=value or in a YAML file given before them:"]
    for name, words, values, default in options_table(options_class):
        explained = f"{words}; {values}" if values else words
        lines.append(f"  {name:<22} {explained} {f'[{default}]' if default else '(required)'}")
    return "\n".join(lines)


def options_table(options_class: type) -> list[tuple[str, str, str, str]]:
    """Of each option its name, the comment beside it in the source, what it may be, and its default ("": required)."""
    sources = [inspect.getsource(ancestor) for ancestor in options_class.__mro__[:-1]]
    comments: dict[str, str] = {}
    for source in sources:  # the recipe's own first: it may say more about an option than what it inherits from
        for name, comment in re.findall(r"^ {4}(\w+): [^#\n]*?#\s*(.+)$", source, re.MULTILINE):
            comments.setdefault(name, comment)
    rules = rules_of(options_class)
    table = []
    for field in fields(options_class):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        shown = "" if default in (REQUIRED, MISSING) else str(default) or '""'
        table.append((field.name, comments.get(field.name, ""), words_of(rules[field.name][1]), shown))
    return table


class _Dumper(yaml.SafeDumper):
    """Quotes each text that some reader of YAML takes for a number."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    try:
        float(text)
    except ValueError:
        return dumper.represent_str(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'")


_Dumper.add_representer(str, _represent_text)


def save_options(options: object, path: str | Path) -> None:
    """Write the resolved options as YAML."""
    text = yaml.dump(asdict(cast("DataclassInstance", options)), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")


def saved_options(path: str | Path) -> dict[str, Any]:
    """What `save_options` has written.

    Raises:
        InputError: for a file that is damaged.
    """
    try:
        saved = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(saved, dict):
        raise InputError(f"{path} holds no options: it is damaged, remove it or give another name=")
    return saved


def changed_keys(options: object, saved: str | Path) -> list[str]:
    """Names of the options whose values differ from those saved with `save_options`, as `key: saved -> now`.

    An option that the saved file does not know, since it is newer, counts as saved with its default.

    Raises:
        InputError: for a saved file that is damaged.
    """
    now = asdict(cast("DataclassInstance", options))
    before = _defaults(type(options)) | saved_options(saved)
    keys = sorted(set(now) | set(before), key=str)
    return [f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys if before.get(key) != now.get(key)]


def _defaults(options_class: type) -> dict[str, Any]:
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(options_class)
    }


def _check_key(key: str, known: list[str], source: str) -> None:
    if key not in known:
        nearest = get_close_matches(str(key), known, n=1, cutoff=0.3)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known)}"
        raise InputError(f"unknown option '{key}' in {source}: {hint}")


def _converted(where: str, value: Any, kind: Any) -> Any:
    """A value of a YAML file as the type of its option; a number is taken for a text, and a whole one for a float."""
    wrong = InputError(f"{where} has a wrong value: it is no {getattr(kind, '__name__', kind)}")
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise wrong
        return [_converted(where, item, get_args(kind)[0]) for item in value]
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise wrong
        return {str(key): _converted(where, item, get_args(kind)[1]) for key, item in value.items()}
    if get_origin(kind) is UnionType:
        return None if value is None else _converted(where, value, get_args(kind)[0])
    taken = {str: str | int | float | bool, float: int | float | str, int: int | str, bool: bool}[kind]
    if not isinstance(value, taken) or (isinstance(value, bool) and kind not in (str, bool)):
        raise wrong
    try:
        return kind(value)
    except (ValueError, OverflowError) as error:
        raise wrong from error


def _items(name: str, text: str, brackets: str = "[]") -> list[str]:
    """The items of a list `[a,b]`, without the spaces and quotes around each."""
    first, last = brackets
    if not (text.startswith(first) and text.endswith(last) and len(text) > 1):
        raise InputError(f"{name}={text} is not in brackets: write {name}={first}{text}{last}")
    items, depth, quote, begin = [], 0, "", 1
    for place, letter in enumerate(text[1:-1], 1):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not text[begin:place].strip():
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and not depth:
            items.append(text[begin:place])
            begin = place + 1
    if depth or quote:
        raise InputError(f"{name}={text} has a bracket or quote without its other half: put quotes around such items")
    if (final := text[begin:-1]).strip() or items:
        items.append(final)
    return [_unquoted(item.strip()) for item in items]


def _unquoted(item: str) -> str:
    return item[1:-1] if len(item) > 1 and item[0] == item[-1] and item[0] in "'\"" else item
