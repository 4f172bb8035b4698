"""Typed results as JSON and back: how format 1 of report.json spells them.

A dataclass is an object of its fields without those that hold nothing. NaN ("not measurable") is null, and a number
that is a key is written in its shortest form. What a later version wrote beside that is ignored.
"""

import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from zoo.evaluate.intervals import Estimate
from zoo.modelinfo import ModelInfo

WRITTEN_EMPTY = {"compat", "info", "groups", "threshold", "notes", "not_measurable", "not_measured"}
WRITTEN_EMPTY |= {"tpir_at_fpir", "tpir_interval"}
"""Fields that format 1 holds even where they are empty."""
NEVER_WRITTEN = frozenset({"thumbnails"})  #: Faces are not ours to pass around


def to_json(value: Any) -> Any:
    """`value` as json.dump takes it."""
    if isinstance(value, ModelInfo):
        return json.loads(value.to_json())
    if isinstance(value, Estimate):
        return value.packed()
    if is_dataclass(value):
        held = {field.name: getattr(value, field.name) for field in fields(value) if field.name not in NEVER_WRITTEN}
        return {name: to_json(item) for name, item in held.items() if name in WRITTEN_EMPTY or not _is_empty(item)}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else f"{key:g}": to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping | list | tuple) and not value)


def from_json(kind: Any, value: Any) -> Any:
    """The value of type `kind` that `to_json` wrote; TypeError, ValueError or KeyError for something else."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None or value == {} else from_json(args[0], value)
    if kind is ModelInfo:
        return ModelInfo.from_json(json.dumps(value))
    if kind is Estimate:
        return Estimate.unpacked(value)
    if isinstance(kind, type) and is_dataclass(kind):
        known = _hints(kind)
        return kind(**{name: from_json(known[name], item) for name, item in value.items() if name in known})
    if origin is tuple and args[-1] is not Ellipsis:
        return tuple(from_json(arg, item) for arg, item in zip(args, value, strict=True))
    if origin in (tuple, Sequence):
        return tuple(from_json(args[0], item) for item in value)
    if origin is Mapping:
        return {args[0](key): from_json(args[1], item) for key, item in value.items()}
    if kind is float and (value is None or (isinstance(value, int) and not isinstance(value, bool))):
        return math.nan if value is None else float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    return value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name not in NEVER_WRITTEN}
