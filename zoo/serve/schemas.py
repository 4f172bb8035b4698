"""What requests and answers look like, in the OpenAPI document and on the wire.

The pictures and options of a request come from a multipart form or JSON with base64; nothing else is ever opened.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from zoo.formats.images import Image, decode
from zoo.serve.problems import MEDIA_TYPE, Problem
from zoo.serve.settings import Limits

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
"""A picture of one pixel, as an example of base64: no face is in it."""
Chosen = TypeVar("Chosen", bound="Options")
Rule = Literal["largest", "central", "all"]
Crops = Field(default=False, description="Also send each aligned crop, as a PNG in base64")
Aligned = Field(default=False, description="Take the pictures as aligned crops and detect no faces")
Cosine = Field(default=None, ge=-1, le=1, description="A cosine similarity")
PROBLEMS = {
    400: "The request is damaged",
    401: "The token is missing or wrong",
    403: "This server does not allow it, or another page asked",
    404: "There is no such person, photo or path",
    408: "The request took too long to arrive",
    413: "The request is too large",
    415: "The content type is not one of those named",
    421: "Host names another server",
    422: "A picture or an option cannot be used; the detail says why",
    503: "The server is busy; Retry-After says when to try again",
}
MOST_FIELDS = 16  #: Fields of a form, pictures included


class Options(BaseModel):
    """Options of a request, none here; a name that is not known is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EmbedOptions(Options):
    """Which faces of a picture are embedded; by default as the server was started."""

    face: Rule | None = None
    aligned: bool = Aligned


class VerifyOptions(EmbedOptions):
    """How two pictures are compared."""

    far: float | None = Field(default=None, gt=0, le=1, description="A false accept rate with a stored threshold")
    threshold: float | None = Cosine
    crops: bool = Crops


class FaceOptions(Options):
    """Which faces of a picture are wanted."""

    face: Rule = "all"
    aligned: bool = Aligned
    crops: bool = Crops


class IdentifyOptions(FaceOptions):
    """How faces are identified; by default as the server was started."""

    fpir: float | None = Field(default=None, gt=0, lt=1, description="A false positive identification rate")
    threshold: float | None = Cosine
    top: int = Field(default=5, ge=1, le=100, description="How many people are ranked for each face")


def answer(name: str, doc: str, /, *bases: Any, **fields: Any) -> Any:
    """A model of an answer: for each field its type, or its type and meaning; a third member makes it optional."""
    made: dict[str, Any] = {}
    for field, given in fields.items():
        kind, meaning, *optional = given if isinstance(given, tuple) else (given, None)
        made[field] = kind, Field(*optional or (...,), description=meaning)
    return create_model(name, __base__=bases or BaseModel, __doc__=doc, **made)


many: Any = list  #: `many[Model]` is a list of a model
CROP = (str | None, "The aligned crop: a PNG in base64", None)
BOX = (list[float] | None, "left, top, width, height in the upright picture's pixels; null for an aligned crop")
LANDMARKS = (list[list[float]] | None, "x and y of eyes, nose and mouth's corners")
SCORE = (float | None, "The detector's confidence, from 0 to 1")
SIZE = (list[int], "height and width in pixels")
FAR = (float | None, "The false accept rate that the threshold was measured at")
WHY = (str, "Where the threshold comes from, or why there is none")
SAME = (bool | None, "null where no threshold is known")
COUNTS = {"people": (int, "People in the gallery afterwards"), "photos": (int, "The person's photos afterwards")}
PHOTO = (str, "The SHA-256 of the photo's file")
ADDED = (bool, "false where the gallery held that photo already")
AUDIT = (str, "The hash of the line in the audit log; empty where nothing changed")

Named = answer("Named", "A model by its file's name and hash, never by a path.", model=str, model_sha256=str)
DECIDED: dict[str, Any] = {"threshold": float | None, "far": FAR, "origin": WHY, "notes": list[str]}
Decided = answer("Decided", "The threshold, and what limits the answer.", **DECIDED)
Found = answer("Found", "A face.", box=BOX, landmarks=LANDMARKS, score=SCORE, quality=dict[str, Any], crop=CROP)
Picture = answer("Picture", "A picture and the face taken from it.", Found, size=SIZE, faces=int, aligned=bool)
Verdict = answer(
    "Verdict", "What `zoo verify --json` prints.", Named, Decided, similarity=float, same=SAME, a=Picture, b=Picture
)
Candidate = answer("Candidate", "A person and a face's similarity to the template.", name=str, similarity=float)
NAME = (str | None, "null for an unknown face, and where no threshold is known")
RANKED = {"box": BOX, "identified": NAME, "candidates": many[Candidate], "notes": list[str], "crop": CROP}
Identified = answer("Identified", "A face and the people that it resembles, best first.", **RANKED)
Identities = answer("Identities", "What `zoo identify --json` prints.", Decided, people=int, faces=many[Identified])
DetectedFace = answer("DetectedFace", "A face with what limits its use.", Found, notes=list[str])
Detection = answer("Detection", "A picture's faces, left to right.", size=SIZE, faces=many[DetectedFace])
EmbeddedFace = answer("EmbeddedFace", "A face and its embedding.", DetectedFace, embedding=(list[float], "Unit length"))
Embeddings = answer("Embeddings", "The embeddings of a picture's faces.", Named, faces=many[EmbeddedFace])
Person = answer("Person", "A person of the gallery.", name=str, photos=int)
People = answer("People", "A page of the gallery, in its order.", total=int, people=many[Person])
PersonPhotos = answer("PersonPhotos", "A person's photos, by the SHA-256 of their files.", name=str, photos=list[str])
Removed = answer("Removed", "What a removal did.", **COUNTS, audit=AUDIT)
Enrolled = answer("Enrolled", "What an enrolment did.", Removed, name=str, photo=PHOTO, added=ADDED, notes=list[str])
ModelFacts = answer(
    "ModelFacts",
    "The model, its thresholds, and what this server allows.",
    *(Named, Decided),
    **{"size": SIZE, "dim": int, "flip": bool, "detector": str, "thresholds": list[dict[str, Any]]},
    **dict.fromkeys(("backbone", "head", "training_set", "license"), str),
    people=(int | None, "People in the gallery; null without one"),
    enrol=bool,
    embeddings=bool,
    token=(bool, "Whether every request needs the token"),
    limits=dict[str, float],
)
ProblemDetails = answer("ProblemDetails", "RFC 9457.", type=str, title=str, status=int, detail=str)


def body(options: type[BaseModel], pictures: dict[str, str]) -> dict[str, Any]:
    """The `requestBody` of an operation that takes pictures, and options beside them."""
    schema = options.model_json_schema()
    known = {name: {k: v for k, v in field.items() if k != "title"} for name, field in schema["properties"].items()}
    content = {}
    kinds = {"multipart/form-data": {"format": "binary"}, "application/json": {"contentEncoding": "base64"}}
    for kind, how in kinds.items():
        fields = {name: {"type": "string", **how, "description": said} for name, said in pictures.items()}
        members = {"properties": {**fields, **known}, "required": list(pictures), "additionalProperties": False}
        content[kind] = {"schema": {"type": "object", **members}}
    content["application/json"]["example"] = {name: PIXEL for name in pictures}
    return {"requestBody": {"required": True, "content": content}}


def answers(model: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer with, for `responses`: a model, or None, and problems, with those of every one."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    problems: dict[int | str, dict[str, Any]] = {
        status: {"description": PROBLEMS[status], "content": {MEDIA_TYPE: schema}}
        for status in sorted({400, 401, 403, 408, 413, 415, 421, 503, *statuses})
    }
    return problems if model is None else {200: {"model": model}, **problems}


@dataclass(frozen=True)
class Sent:
    """A picture as it was sent."""

    content: bytes
    name: str  #: What messages call it

    def pixels(self, limits: Limits, damage: list[str] | None = None) -> Image:
        """The upright picture, RGB uint8 (height, width, 3); InputError for anything else or for too many pixels."""
        return decode(self.content, self.name, int(limits.max_pixels * 1e6), damage)


async def read_request(request: Request, options: type[Chosen], names: dict[str, str]) -> tuple[Chosen, list[Sent]]:
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
    pictures: dict[str, bytes] = {}
    for name in [name for name in names if name in fields]:
        try:
            content = fields.pop(name)
            text = content.partition(";base64,")[2] if content.startswith("data:") else content
            pictures[name] = base64.b64decode(text, validate=True)
        except (AttributeError, ValueError):
            wanted, advice = f"the bytes of a picture as base64 in {name}", "paths and addresses are not opened"
            raise Problem(422, f"expected {wanted}, found something else; {advice}") from None
    return fields, pictures
