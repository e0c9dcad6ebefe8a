"""What a recipe is told in a study: its arguments, and the numbers among them that a plan is made from."""

from dataclasses import dataclass
from typing import Any, cast

from omegaconf import OmegaConf

from sempre.config import yaml_file
from sempre.errors import InputError, one_input_error


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
    merged = OmegaConf.create()
    for argument in arguments:
        if "=" not in argument and not yaml_file(argument).is_file():
            raise InputError(f"{recipe}={argument} is neither a YAML file nor key=value")
        with one_input_error(lambda reason, argument=argument: f"{recipe}={argument} cannot be read: {reason}"):
            update = OmegaConf.from_dotlist([argument]) if "=" in argument else OmegaConf.load(yaml_file(argument))
            merged = OmegaConf.merge(merged, update)
    return Settings(recipe, list(arguments), cast(dict[str, Any], OmegaConf.to_container(merged)))
