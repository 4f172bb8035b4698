"""Reads recipes, YAML files of options, and values, among them texts of a command line, by the type of an option."""

import contextlib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from zoo.errors import InputError, explained, unknown_name


@dataclass(frozen=True)
class Option:
    """What is true of a training option besides its type, default and description."""

    listed: bool = False  #: `zoo train --help` lists its flag; the others have one as well, and --set takes all of them
    resumable: bool = False  #: It may change on --resume: it decides no weights (threads and device only to rounding)
    mendable: bool = False
    """It may change on --resume to mend what was wrong, although it decides the weights; history.jsonl tells."""
    told: bool = True  #: A model card tells it; what describes a machine or names a path concerns whoever trained
    varied: bool = False  #: The cells of `zoo reproduce` differ in it
    grid_flag: str = ""  #: The flag of `zoo reproduce` that sets it there, in place of --set


def read(value: Any, hint: Any, name: str) -> Any:
    """`value`, which may be a text, as the type `hint`; InputError, naming `name`, where it has another type."""
    try:
        return TypeAdapter(hint).validate_python(meant(value, hint))
    except (ValidationError, yaml.YAMLError):
        raise InputError(f"expected {name} to be {spelled(hint)}, found {shown(value)}") from None


def shown(value: Any) -> str:
    """A value as a user writes it: true, none, 'text', [1, 2]."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(list(value) if isinstance(value, tuple) else value)


def meant(value: Any, hint: Any) -> Any:
    """A text as the type `hint` means it, where pydantic accepts no text: none, 1e8 as a whole number, and lists.

    >>> meant("none", float | None), meant("none", str), meant("1e8", int), meant("[a, 2]", tuple[str, ...])
    (None, 'none', 100000000.0, ['a', '2'])
    """
    if isinstance(value, Path):
        return str(value)
    if hint is Any and isinstance(value, str):  # an option that somebody's own head declares without a type
        found = yaml.safe_load(value)
        with contextlib.suppress(ValueError):  # to YAML 1e-2 is a text
            return float(found) if isinstance(found, str) else found
        return found
    kinds = typing.get_args(hint) if is_union(hint) else (hint,)
    if not isinstance(value, str) or any(value in typing.get_args(kind) for kind in kinds):
        return value
    if type(None) in kinds and value.lower() in ("", "~", "none", "null"):
        return None
    if any(typing.get_origin(kind) in (tuple, dict) for kind in kinds):
        return yaml.load(value, yaml.BaseLoader)
    if int in kinds and "e" in value.lower():
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def spelled(hint: Any) -> str:
    """A type as a user reads it.

    >>> spelled(float | None), spelled(Literal["a", "b"]), spelled(tuple[int, ...])
    ('a number or none', 'a or b', 'a list such as [1, 2]')
    """
    if is_union(hint) or typing.get_origin(hint) is Literal:
        return " or ".join(map(spelled, typing.get_args(hint)))
    if isinstance(hint, str):
        return hint
    words: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", Any: "a value"}
    words |= {bool: "true or false", type(None): "none", tuple[int, ...]: "a list such as [1, 2]"}
    words |= {tuple[str, ...]: "a list such as [a, b]", tuple[float, float, float]: "a list such as [1, 2, 3]"}
    return words.get(hint, "options such as {margin: 0.3}")


RECIPES = Path(__file__).resolve().parent.parent / "recipes"


def recipes() -> list[str]:
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
