"""The options of a head, as its `__init__` declares them, and the checks of their values."""

import contextlib
import inspect
import numbers
import types
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from zoo.errors import InputError

Scale = float | Literal["auto"]  #: The factor s of the cosines; "auto" is AdaCos's fixed scale, √2·ln(classes − 1)

KINDS: dict[Any, Any] = {float: numbers.Real, int: numbers.Integral, bool: bool | np.bool_, str: str}
KINDS[types.NoneType] = types.NoneType


@dataclass(frozen=True)
class HeadOption:
    """One option of a head, as its `__init__` declares it."""

    name: str  #: As in `build_head(head, NAME=…)`
    type: Any  #: The annotation: float, int, bool, str, None, a Literal of the allowed values, or a union of these
    default: Any  #: The value where none is given


def head_options(head: type) -> list[HeadOption]:
    """The options of a head class in the order of its `__init__`."""
    types = get_type_hints(head.__init__)  # type: ignore[misc]  # the signature of a class that is given
    parameters = list(inspect.signature(head.__init__).parameters.values())[1:]  # type: ignore[misc]
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [HeadOption(p.name, types.get(p.name, Any), p.default) for p in named]


def type_name(annotation: Any) -> str:
    """An option's type as help and listings show it: "float", "paper | none | easy", "float | auto"."""
    if get_origin(annotation) in (Literal, Union, types.UnionType):
        return " | ".join(type_name(part) for part in get_args(annotation))
    if annotation is types.NoneType:
        return "None"
    return annotation if isinstance(annotation, str) else str(getattr(annotation, "__name__", annotation))


def typed(head: str, option: HeadOption, value: Any) -> Any:
    """`value` as the option's annotation says, NumPy's numbers as Python's; InputError where it has another type."""
    try:
        return _read(option.type, value)
    except TypeError:
        pass
    if get_origin(option.type) is Literal:
        choices = ", ".join(map(repr, get_args(option.type)))
        raise InputError(f"expected {option.name} of the head {head} to be one of {choices}, found {value!r}")
    found = f"found {value!r}; its default is {option.default!r}"
    raise InputError(f"expected {option.name} of the head {head} to be {type_name(option.type)}, {found}")


def _read(annotation: Any, value: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            with contextlib.suppress(TypeError):
                return _read(part, value)
    elif get_origin(annotation) is Literal:
        for choice in get_args(annotation):
            if isinstance(value, type(choice)) and value == choice:
                return choice
    elif annotation not in KINDS:
        return value  # a third-party head checks a type of its own itself
    elif isinstance(value, KINDS[annotation]) and isinstance(value, KINDS[bool]) == (annotation is bool):
        return None if value is None else annotation(value)
    raise TypeError


def check_range(option: str, value: float, low: float, high: float) -> float:
    """`value` where low ≤ value ≤ high; otherwise (also for NaN) InputError naming the option."""
    if not low <= value <= high:
        raise InputError(f"expected {option} between {low:.6g} and {high:.6g}, found {value}; choose one in that range")
    return float(value)
