"""The HTTP interface: each path is one call of the service, with its place in the OpenAPI document."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from zoo import __version__
from zoo.errors import InputError
from zoo.messages import log
from zoo.recognition.store import StoreError
from zoo.serve import schemas
from zoo.serve.guard import Gate, Guard
from zoo.serve.metrics import Metrics
from zoo.serve.page import page_files
from zoo.serve.problems import Problem, busy
from zoo.serve.schemas import answers, body, read_request
from zoo.serve.service import Service
from zoo.serve.settings import Settings

DESCRIPTION = """Face verification and a gallery over HTTP. Pictures come as multipart files or as base64 in JSON; no
path and no address is ever opened. No liveness detection, no proof, no consent: see docs/verify.md."""
PAIR, PHOTO = {"a": "the first picture", "b": "the second picture"}, {"photo": "the photo"}
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def create_app(settings: Settings, counts: Path | None = None) -> ASGIApp:
    """The whole application with its model loaded; workers that share the folder `counts` add up their metrics.

    InputError where the model, the detector, the gallery or the token cannot be used.
    """
    service, gate = Service(settings), Gate(settings.limits)
    metrics = Metrics(counts or Path(tempfile.mkdtemp(prefix="zoo-serve-")))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"metrics": metrics, "limits": settings.limits}
        gate.close()

    about: dict[str, Any] = {"title": "zoo serve", "version": __version__, "description": DESCRIPTION}
    app = FastAPI(**about, docs_url=None, redoc_url=None, lifespan=lifespan)

    def operation(
        path: str, model: type, options: type[schemas.Options], pictures: dict[str, str], call: Callable[..., Any]
    ) -> None:
        async def answer(request: Request) -> Response:
            chosen, sent = await read_request(request, options, pictures)
            return JSONResponse(await gate.run(lambda: call(chosen, *sent)))

        summary, told, taken = (call.__doc__ or "").split("\n")[0], answers(model, 404, 422), body(options, pictures)
        app.post(path, summary=summary, operation_id=path.strip("/"), responses=told, openapi_extra=taken)(answer)

    picture = {"picture": "the picture"}
    operation("/verify", schemas.Verdict, schemas.VerifyOptions, PAIR, service.verify)
    operation("/identify", schemas.Identities, schemas.IdentifyOptions, picture, service.identify)
    operation("/detect", schemas.Detection, schemas.FaceOptions, picture, service.detect)
    operation("/embed", schemas.Embeddings, schemas.EmbedOptions, picture, service.embed)

    _add_people(app, service, gate, metrics)
    _add_facts(app, service, gate, metrics)
    _add_problems(app, service)
    parts = app.openapi()["components"]  # of the document that FastAPI keeps
    parts["schemas"]["ProblemDetails"] = schemas.ProblemDetails.model_json_schema()
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return Guard(app, settings, metrics)


def _add_people(app: FastAPI, service: Service, gate: Gate, metrics: Metrics) -> None:
    token: dict[str, Any] = {"security": [{"token": []}]}

    @app.get("/people", responses=answers(schemas.People, 404, 422))
    async def people(
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000
    ) -> Response:
        """People of the gallery and how many photos each has."""
        return JSONResponse(await gate.run(lambda: service.people(offset, limit)))

    @app.get("/people/{name}", responses=answers(schemas.PersonPhotos, 404, 422))
    async def photos(name: str) -> Response:
        """The photos of a person, by the hash of their files."""
        return JSONResponse(await gate.run(lambda: service.photos(name)))

    made = {201: {"model": schemas.Enrolled}, **answers(schemas.Enrolled, 404, 422)}
    taken = {**body(schemas.Options, PHOTO), **token}

    @app.post("/people/{name}/photos", status_code=201, responses=made, openapi_extra=taken)
    async def enrol(name: str, request: Request) -> Response:
        """Enrol a photo of a person, new or not; 200 where the gallery holds it already."""
        _, (photo,) = await read_request(request, schemas.Options, PHOTO)
        done = await gate.run(lambda: service.enrol(name, photo))
        if done["added"]:
            metrics.event("enrolled")
        return JSONResponse(done, 201 if done["added"] else 200)

    async def removed(name: str, sha256: str | None = None) -> Response:
        done = await gate.run(lambda: service.remove(name, sha256))
        metrics.event("removed")
        return JSONResponse(done)

    removal: dict[str, Any] = {"responses": answers(schemas.Removed, 404, 422), "openapi_extra": token}

    @app.delete("/people/{name}", **removal)
    async def remove(name: str) -> Response:
        """Remove a person with the template and the hashes of all photos."""
        return await removed(name)

    @app.delete("/people/{name}/photos/{sha256}", **removal)
    async def remove_photo(name: str, sha256: str) -> Response:
        """Remove one photo, by the SHA-256 of its file; a person goes with the last one."""
        return await removed(name, sha256)


def _add_facts(app: FastAPI, service: Service, gate: Gate, metrics: Metrics) -> None:
    @app.get("/model", responses=answers(schemas.ModelFacts))
    async def model() -> Response:
        """The model, its thresholds, and what this server allows."""
        return JSONResponse(await gate.run(service.facts))

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", responses=answers(None))
    async def healthz() -> dict[str, str]:
        """Whether this server answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **answers(None)})
    async def counters() -> Response:
        """Counters in Prometheus' text format."""
        gauges = {"waiting": gate.waiting, "running": gate.running}
        return Response(metrics.text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8")

    files = page_files("server")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return Response(files["index.html"], media_type="text/html")

    @app.get("/assets/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in files:
            raise Problem(404, "expected a file of the page, found none of that name")
        return Response(files[name], media_type=KINDS[Path(name).suffix])


def _add_problems(app: FastAPI, service: Service) -> None:
    """Every error as a problem; what is a fault of ours is one as well, and its trace goes to the log."""

    def handle(kind: type[Exception], problem: Callable[[Any], Problem]) -> None:
        async def answer(request: Request, error: Exception) -> Response:
            return problem(error).response()

        app.add_exception_handler(kind, answer)

    def http(error: HTTPException) -> Problem:
        said = {404: "there is nothing at this path; a person's name has no slash"}
        said[405] = "this path does not take that method"
        return Problem(error.status_code, said.get(error.status_code, str(error.detail)), dict(error.headers or {}))

    def validation(error: RequestValidationError) -> Problem:
        first = error.errors()[0]
        return Problem(422, f"expected other options: {first['loc'][-1]}: {first['msg']}")

    def unreachable(error: StoreError) -> Problem:
        log.error("%s", error)
        return busy(5, "the gallery of this server does not answer; its log says why")

    fault = "this is a fault of the server, not of your request; its log says more"
    handle(Problem, lambda error: error)
    handle(StoreError, unreachable)
    handle(InputError, lambda error: Problem(422, service.without_paths(str(error))))
    handle(HTTPException, http)
    handle(RequestValidationError, validation)
    handle(Exception, lambda error: Problem(500, fault))
