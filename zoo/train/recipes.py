"""Recipes: YAML files of training options, those that come with the package and a user's own."""

from pathlib import Path
from typing import Any

import yaml

from zoo.errors import InputError, explained, unknown_name

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


def recipes() -> list[str]:
    """The names of the packaged recipes."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def load_recipe(name: str) -> dict[str, Any]:
    """The options of a packaged recipe, or of a YAML file, as texts: `build` knows their types, YAML does not."""
    if name.endswith((".yaml", ".yml")):
        return load_yaml(Path(name), yaml.BaseLoader)
    if name not in recipes():
        raise unknown_name("recipe", name, recipes())
    return load_yaml(RECIPES / f"{name}.yaml", yaml.BaseLoader)


def load_yaml(path: Path, loader: type[yaml.SafeLoader | yaml.BaseLoader] = yaml.SafeLoader) -> dict[str, Any]:
    """The options in a YAML file; InputError, with the line, where it holds no `option: value` lines."""
    unread = f"expected a YAML file of training options at {path}, cannot read it"
    with explained(unread, OSError, UnicodeDecodeError, yaml.YAMLError), open(path, encoding="utf-8") as file:
        content = yaml.load(file, loader)
    if not isinstance(content, dict):
        found = "nothing" if content is None else "a list" if isinstance(content, list) else f"the text {content!r}"
        raise InputError(f"expected `option: value` lines in {path}, found {found}")
    return content
