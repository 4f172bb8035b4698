"""What requests and answers look like in the OpenAPI document, with examples."""

from types import GenericAlias
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from zoo.serve.problems import MEDIA_TYPE

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
"""A picture of one pixel, as an example of base64: no face is in it."""
Rule = Literal["largest", "central", "all"]
Crops = Field(default=False, description="Also send each aligned crop, as a PNG in base64")
Aligned = Field(default=False, description="Take the pictures as aligned crops and detect no faces")
Cosine = Field(default=None, ge=-1, le=1, description="A cosine similarity")


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
    """A model of an answer: for each field its type, or its type and meaning; a third member makes it optional.

    `[Model]` stands for a list of a model.
    """
    made: dict[str, Any] = {}
    for field, given in fields.items():
        kind, meaning, *optional = given if isinstance(given, tuple) else (given, None)
        kind = GenericAlias(list, *kind) if isinstance(kind, list) else kind
        made[field] = kind, Field(*optional or (...,), description=meaning)
    return create_model(name, __base__=bases or BaseModel, __doc__=doc, **made)


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
Identified = answer(
    "Identified",
    "A face and the people that it resembles, best first.",
    box=BOX,
    identified=(str | None, "null for an unknown face, and where no threshold is known"),
    candidates=[Candidate],
    notes=list[str],
    crop=CROP,
)
Identities = answer("Identities", "What `zoo identify --json` prints.", Decided, people=int, faces=[Identified])
DetectedFace = answer("DetectedFace", "A face with what limits its use.", Found, notes=list[str])
Detection = answer("Detection", "A picture's faces, left to right.", size=SIZE, faces=[DetectedFace])
EmbeddedFace = answer("EmbeddedFace", "A face and its embedding.", DetectedFace, embedding=(list[float], "Unit length"))
Embeddings = answer("Embeddings", "The embeddings of a picture's faces.", Named, faces=[EmbeddedFace])
Person = answer("Person", "A person of the gallery.", name=str, photos=int)
People = answer("People", "A page of the gallery, in its order.", total=int, people=[Person])
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


def answers(model: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer with, for `responses`: a model, or None, and problems, with those of every one."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    problems: dict[int | str, dict[str, Any]] = {
        status: {"description": PROBLEMS[status], "content": {MEDIA_TYPE: schema}}
        for status in sorted({400, 401, 403, 408, 413, 415, 421, 503, *statuses})
    }
    return problems if model is None else {200: {"model": model}, **problems}
