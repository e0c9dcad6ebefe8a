"""What values an option may have: the types of the fields of a recipe's options.

    epochs: Count = 800  # passes over the training images; each gives one crop a pass
    flip: Share = 0.5  # probability of a horizontal flip
    crop: Annotated[int, Range(64, step=32)] = 640  # side of the random crops, px
    keep: Literal["last", "lowest"] = "last"  # backbone that is kept

The range stands in the type, the default and the words beside it. `sempre.config` reads all three: `read_options`
refuses what lies outside, `--help` and the documentation's page of options say what lies inside. What depends on two
options, or on a file, is checked by the recipe.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from sempre.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, or strictly `above` and `below`; multiples of `step`.

    Of an option that is a list or a dict it holds for each number in it.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    step: int | None = None

    def holds(self, number: float) -> bool:
        return not (
            (self.least is not None and number < self.least)
            or (self.most is not None and number > self.most)
            or (self.above is not None and number <= self.above)
            or (self.below is not None and number >= self.below)
            or (self.step is not None and number % self.step)
        )

    def words(self) -> str:
        """As in "0 to 1" or "more than 0"."""
        if self.least is not None and self.most is not None:
            words = f"{self.least:.15g} to {self.most:.15g}"
        else:
            bounds = [
                f"{self.least:.15g} or more" if self.least is not None else "",
                f"more than {self.above:.15g}" if self.above is not None else "",
                f"less than {self.below:.15g}" if self.below is not None else "",
                f"at most {self.most:.15g}" if self.most is not None else "",
            ]
            words = " and ".join(filter(None, bounds))
        return f"{words}, a multiple of {self.step}" if self.step is not None else words


@dataclass(frozen=True, init=False)
class OneOf:
    """One of these texts; of an option that is a list, each of its items."""

    choices: tuple[str, ...]

    def __init__(self, *choices: str) -> None:
        object.__setattr__(self, "choices", choices)

    def words(self) -> str:
        return (" or " if len(self.choices) == 2 else ", ").join(self.choices)


@dataclass(frozen=True, init=False)
class Items:
    """A list of so many items, of one of the `counts`; `rising` when none is smaller than the one before."""

    counts: tuple[int, ...]
    rising: bool

    def __init__(self, *counts: int, rising: bool = False) -> None:
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "rising", rising)

    def words(self) -> str:
        numbers = " or ".join("none" if count == 0 else str(count) for count in self.counts)
        return f"a list of {numbers}{', the smallest first' if self.rising else ''}"


@dataclass(frozen=True)
class NotEmpty:
    """A list of at least one item."""

    def words(self) -> str:
        return "at least one"


@dataclass(frozen=True)
class FolderBelow:
    """The name of a folder below another one; it may have slashes, and leads nowhere else."""

    parent: str

    def words(self) -> str:
        return f"a name without .. and not beginning with /, for it is a folder below {self.parent}"


Rule = Range | OneOf | Items | NotEmpty | FolderBelow

Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Index = Annotated[int, Range(-(2**31), 2**31 - 1)]  # negative ones count from the last
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what NumPy, PyTorch and scikit-learn all take
Positive = Annotated[float, Range(above=0)]
PositiveOrZero = Annotated[float, Range(0)]
Finite = Annotated[float, Range()]
Share = Annotated[float, Range(0, 1)]
InnerShare = Annotated[float, Range(above=0, below=1)]
ShareBelowOne = Annotated[float, Range(0, below=1)]
PositiveShare = Annotated[float, Range(above=0, most=1)]
Percent = Annotated[float, Range(above=0, most=100)]
Degrees = Annotated[float, Range(0, 360)]
Minutes = Annotated[float, Range(above=0, most=525_600)]  # a year's at the most, which clocks can add up
Magnification = Annotated[float, Range(above=0, most=16)]
IndexOrNone = Annotated[int | None, Range(-(2**31), 2**31 - 1)]
CountOrAuto = Annotated[int, Range(-1)]  # -1: what suits
Numbers = Annotated[list[int], Range(1)]
Shares = Annotated[list[float], Range(0, 1)]
Several = Annotated[list[str], NotEmpty()]
Span = Annotated[list[float], Items(2, rising=True), Range(above=0)]  # smallest and largest
GreyRange = Annotated[list[float], Items(2, rising=True), Range(0, 100)]  # percentiles of the grey values
Percentiles = Annotated[list[float], Items(0, 2, rising=True), Range(0, 100)]  # of grey values
RunName = Annotated[str, FolderBelow("runs/")]
Precision = Annotated[str, OneOf("auto", "bf16", "float32")]


def rules_of(options_class: type) -> dict[str, tuple[Any, tuple[Rule, ...]]]:
    """Of each field of a dataclass: its bare type, and the rules for its value."""
    hints = get_type_hints(options_class, include_extras=True)
    return {name: _bare(hint) for name, hint in hints.items()}


def check_ranges(options: object) -> None:
    """Whether each option is what its type says.

    Raises:
        InputError: for the first that is not; the message says its value and what it may be.
    """
    rules_by_name = rules_of(type(options))
    for field in fields(cast("DataclassInstance", options)):
        name, value = field.name, getattr(options, field.name)
        _, rules = rules_by_name[name]
        if value == "" and field.default != "":
            raise InputError(f"{name}= is empty: give it a value, or leave it out for its default (see --help)")
        for number in _numbers(value):
            if isinstance(number, float) and not math.isfinite(number):
                raise InputError(f"{name}={_shown(value)} is not finite: give {_range_words(rules) or 'a number'}")
        for rule in rules:
            if value is not None and not _holds(rule, value):
                wrong = _unknown(rule, value) if isinstance(rule, OneOf) else value
                raise InputError(f"{name}={_shown(wrong)} {_complaint(rule)}")


def words_of(rules: Collection[Rule]) -> str:
    """What an option may be, for `--help`; empty where everything goes."""
    return "; ".join(filter(None, (rule.words() for rule in rules if not isinstance(rule, FolderBelow))))


def _bare(hint: Any) -> tuple[Any, tuple[Rule, ...]]:
    if get_origin(hint) is Annotated:
        kind, *rules = get_args(hint)
        return kind, tuple(rules)
    if get_origin(hint) is Literal:
        return str, (OneOf(*get_args(hint)),)
    return hint, ()


def _holds(rule: Rule, value: Any) -> bool:
    match rule:
        case Range():
            return all(map(rule.holds, _numbers(value)))
        case OneOf():
            return _unknown(rule, value) is None
        case Items():
            rises = all(one <= other for one, other in pairwise(value))
            return len(value) in rule.counts and (rises or not rule.rising)
        case NotEmpty():
            return len(value) > 0
        case FolderBelow():
            path = PurePath(value)
            return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _unknown(rule: OneOf, value: Any) -> str | None:
    return next((item for item in ([value] if isinstance(value, str) else value) if item not in rule.choices), None)


def _complaint(rule: Rule) -> str:
    match rule:
        case OneOf():
            return f"is unknown: choose {rule.words()}"
        case NotEmpty():
            return "is empty: give at least one"
        case _:
            return f"is out of range: give {rule.words()}"


def _range_words(rules: Collection[Rule]) -> str:
    return next((rule.words() for rule in rules if isinstance(rule, Range)), "")


def _numbers(value: Any) -> Iterator[float]:
    """The numbers of an option: itself, or those in its list or dict."""
    if isinstance(value, dict):
        value = list(value.values())
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool):
            yield item


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    return str(value)
