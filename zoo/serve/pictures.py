"""The pictures and options of a request, from a multipart form or JSON with base64; nothing else is ever opened."""

import base64
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from zoo.formats.images import Image, decode
from zoo.serve.problems import Problem
from zoo.serve.settings import Limits

Options = TypeVar("Options", bound=BaseModel)

MOST_FIELDS = 16  #: Fields of a form, pictures included


@dataclass(frozen=True)
class Sent:
    """A picture as it was sent."""

    content: bytes
    name: str  #: What messages call it

    def pixels(self, limits: Limits, damage: list[str] | None = None) -> Image:
        """The upright picture, RGB uint8 (height, width, 3); InputError for anything else or for too many pixels."""
        return decode(self.content, self.name, limits.pixels, damage)


async def read_request(request: Request, options: type[Options], names: dict[str, str]) -> tuple[Options, list[Sent]]:
    """The options of a request, and its pictures: a field of each of `names`, called in messages what stands there.

    400 or 415 where the body is neither a form nor JSON, 422 where a field is missing, unknown or wrong.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        fields, pictures = await _form(request)
    elif kind == "application/json":
        fields, pictures = await _json(request, names)
    else:
        raise Problem(415, f"expected multipart/form-data or application/json, found {kind[:60] or 'no Content-Type'}")
    if missing := [name for name in names if name not in pictures]:
        raise Problem(422, f"expected a picture in the field {missing[0]}, found none")
    if unknown := sorted(set(pictures) - set(names)):
        raise Problem(422, f"expected pictures in {' and '.join(names)} alone, found one in {unknown[0][:60]!r}")
    try:
        chosen = options.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:60]
        raise Problem(422, f"expected other options: {where or 'the request'}: {first['msg']}") from None
    return chosen, [Sent(pictures[name], said) for name, said in names.items()]


async def _form(request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    parser = MultiPartParser(request.headers, request.stream(), max_files=MOST_FIELDS, max_fields=MOST_FIELDS)
    parser.spool_max_size = 2**63 - 1  # every file stays in memory
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        said = getattr(error, "message", "") or "it cannot be parsed"
        raise Problem(400, f"expected a multipart form, found a damaged one ({said})") from None
    fields: dict[str, Any] = {}
    pictures: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name in fields or name in pictures:
            raise Problem(422, f"expected each field once, found two of {name[:60]!r}")
        if isinstance(value, str):
            fields[name] = value
        else:
            pictures[name] = await value.read()
    return fields, pictures


async def _json(request: Request, names: dict[str, str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        fields = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Problem(400, "expected JSON in UTF-8, found something else") from None
    if not isinstance(fields, dict):
        raise Problem(422, f"expected a JSON object, found {type(fields).__name__}")
    return fields, {name: _decoded(fields.pop(name), name) for name in names if name in fields}


def _decoded(text: Any, name: str) -> bytes:
    try:
        if text.startswith("data:"):
            text = text.partition(";base64,")[2]
        return base64.b64decode(text, validate=True)
    except (AttributeError, ValueError):
        wanted, advice = f"the bytes of a picture as base64 in {name}", "paths and addresses are not opened"
        raise Problem(422, f"expected {wanted}, found something else; {advice}") from None
