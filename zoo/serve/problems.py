"""Errors as RFC 9457 has them, in the sentences that the command line prints."""

from http import HTTPStatus

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that cannot be answered: `status` and one sentence, with headers where the status wants them."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}

    def response(self) -> JSONResponse:
        """The members of RFC 9457, section 3.1; the status says what kind of problem it is, so `type` is blank."""
        title = HTTPStatus(self.status).phrase
        content = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        return JSONResponse(content, self.status, self.headers, MEDIA_TYPE)


def busy(seconds: float, detail: str) -> Problem:
    """503 with the whole seconds after which another try makes sense."""
    return Problem(503, detail, {"Retry-After": str(max(1, round(seconds)))})
