"""What a recipe is told in a study: its arguments, and the numbers among them that a plan is made from."""

from dataclasses import dataclass
from typing import Any

from sempre.config import read_yaml, yaml_file
from sempre.errors import InputError


@dataclass(frozen=True)
class Settings:
    """`arguments` as the recipe takes them, YAML files and `key=value`; `values` is what they come to."""

    recipe: str
    arguments: list[str]
    values: dict[str, Any]

    def number(self, name: str) -> float:
        """Raises:
        InputError: when the arguments do not say it, or it is no positive number.
        """
        value = self.values.get(name)
        if not isinstance(value, int | float) or value <= 0:
            raise InputError(f"{self.recipe}={self.arguments} does not say {name}: add {name}=… to plan with")
        return value


def read_settings(recipe: str, arguments: list[str]) -> Settings:
    """Raises:
    InputError: for a YAML file that is missing or damaged.
    """
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if equals:
            values[name] = _number_or_text(text)
            continue
        try:
            values |= read_yaml(yaml_file(argument))
        except InputError as error:
            raise InputError(f"{recipe}={error}") from error
    return Settings(recipe, list(arguments), values)


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
