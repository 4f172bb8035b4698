"""What requests and answers look like in the OpenAPI document, with examples."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class Found(BaseModel):
    """A face: in the upright picture's pixels; box and landmarks are null for an aligned crop."""

    box: list[float] | None = Field(description="left, top, width, height")
    landmarks: list[list[float]] | None = Field(description="x and y of eyes, nose and mouth's corners")
    score: float | None = Field(description="The detector's confidence, from 0 to 1")
    quality: dict[str, Any]
    crop: str | None = Field(default=None, description="The aligned crop: a PNG in base64")


class Picture(Found):
    """A picture of a pair, and the face taken from it."""

    size: list[int] = Field(description="height and width in pixels")
    faces: int
    aligned: bool


class Named(BaseModel):
    """A model by its file's name and hash, never by a path."""

    model: str
    model_sha256: str


class Decided(BaseModel):
    """The threshold, and what limits the answer."""

    threshold: float | None
    far: float | None = Field(description="The false accept rate that the threshold was measured at")
    origin: str = Field(description="Where the threshold comes from, or why there is none")
    notes: list[str]


class Verdict(Named, Decided):
    """What `zoo verify --json` prints."""

    similarity: float = Field(ge=-1, le=1)
    same: bool | None = Field(description="null where no threshold is known")
    a: Picture
    b: Picture


class Candidate(BaseModel):
    """A person of the gallery and the similarity of a face to the person's template."""

    name: str
    similarity: float


class Identified(BaseModel):
    """A face and the people that it resembles, best first."""

    box: list[float] | None
    identified: str | None = Field(description="null for an unknown face, and where no threshold is known")
    candidates: list[Candidate]
    notes: list[str]
    crop: str | None = None


class Identities(Decided):
    """What `zoo identify --json` prints."""

    people: int
    faces: list[Identified]


class DetectedFace(Found):
    """A face with what limits the use of it."""

    notes: list[str]


class Detection(BaseModel):
    """The faces of a picture, from left to right."""

    size: list[int] = Field(description="height and width in pixels")
    faces: list[DetectedFace]


class EmbeddedFace(DetectedFace):
    """A face with its embedding."""

    embedding: list[float] = Field(description="Unit length")


class Embeddings(Named):
    """The embeddings of a picture's faces."""

    faces: list[EmbeddedFace]


class Person(BaseModel):
    """A person of the gallery."""

    name: str
    photos: int


class People(BaseModel):
    """A page of the gallery, in its order."""

    total: int
    people: list[Person]


class PersonPhotos(BaseModel):
    """A person's photos, by the SHA-256 of their files."""

    name: str
    photos: list[str]


class Removed(BaseModel):
    """What a removal did."""

    people: int = Field(description="People in the gallery afterwards")
    photos: int = Field(description="The person's photos afterwards")
    audit: str = Field(description="The hash of the line in the audit log; empty where nothing changed")


class Enrolled(Removed):
    """What an enrolment did."""

    name: str
    photo: str = Field(description="The SHA-256 of the photo's file")
    added: bool = Field(description="false where the gallery held that photo already")
    notes: list[str]


class ModelFacts(Named, Decided):
    """The model, its thresholds, and what this server allows."""

    size: list[int] = Field(description="height and width of an aligned crop")
    dim: int
    flip: bool
    backbone: str
    head: str
    training_set: str
    license: str
    detector: str
    thresholds: list[dict[str, Any]]
    people: int | None = Field(description="People in the gallery; null without one")
    enrol: bool
    embeddings: bool
    token: bool = Field(description="Whether every request needs the token")
    limits: dict[str, float]


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


def body(options: type[BaseModel], pictures: dict[str, str]) -> dict[str, Any]:
    """The `requestBody` of an operation that takes pictures, and options beside them."""
    schema = options.model_json_schema()
    known = {name: {k: v for k, v in field.items() if k != "title"} for name, field in schema["properties"].items()}
    content = {}
    for kind, picture in (
        ("multipart/form-data", {"type": "string", "format": "binary"}),
        ("application/json", {"type": "string", "contentEncoding": "base64"}),
    ):
        fields = {name: {**picture, "description": said} for name, said in pictures.items()}
        content[kind] = {
            "schema": {
                "type": "object",
                "properties": {**fields, **known},
                "required": list(pictures),
                "additionalProperties": False,
            }
        }
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


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that an operation may answer with, for `responses`; those of every operation are among them."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    return {
        status: {"description": PROBLEMS[status], "content": {MEDIA_TYPE: schema}}
        for status in sorted({400, 401, 403, 408, 413, 415, 421, 503, *statuses})
    }
