"""What a server serves, to whom, and within which limits."""

from __future__ import annotations

import ipaddress
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.machine import cores
from zoo.messages import log

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LEAST_TOKEN = 32
"""Characters of a token: `secrets.token_urlsafe(32)` has 43."""


def limit(default: float, metavar: str, help: str) -> Any:
    """A field of `Limits` with what the command's help says about it."""
    return field(default=default, metadata={"metavar": metavar, "help": help})


@dataclass(frozen=True)
class Limits:
    """What one client may ask for, and how much a server takes on at once."""

    max_body: float = limit(16.0, "MB", "the largest request in megabytes")
    max_pixels: float = limit(50.0, "MP", "the largest picture in megapixels")
    max_faces: int = limit(32, "N", "the most faces of one picture that are embedded")
    max_seconds: float = limit(30.0, "S", "the longest that a request may take to arrive, to wait, or to be computed")
    concurrent: int = limit(4, "N", "requests that one worker computes at once")
    queue: int = limit(32, "N", "requests that wait in one worker; more are refused with 503")
    connections: int = limit(512, "N", "open connections of one worker; more are refused with 503")

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0 and not (name == "queue" and self.queue == 0):
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"expected {flag} above zero, found {getattr(self, name)}")

    @property
    def body_bytes(self) -> int:
        """`max_body` in bytes."""
        return int(self.max_body * 1e6)

    @property
    def pixels(self) -> int:
        """`max_pixels` in pixels."""
        return int(self.max_pixels * 1e6)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of all bodies that a worker holds at once."""
        return self.body_bytes * (self.concurrent + max(8, self.queue // 4))


@dataclass(frozen=True)
class Settings:
    """What `zoo serve` was asked for."""

    model: str | Path | None = None
    """Whatever `zoo.resolve` understands; None: the newest run that was exported."""
    gallery: Path | None = None
    """A gallery file of `zoo index`; with `enrol` it is made where it is missing."""
    detector: Path | None = None
    """YuNet's ONNX file; None: the pinned one."""
    face: str = "largest"
    aligned: bool = False
    far: float | None = None
    fpir: float | None = None
    threshold: float | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    """The file whose first line is the token."""
    no_auth: bool = False
    """Whether another host than loopback may be served without a token."""
    enrol: bool = False
    """Whether people may be enrolled and removed."""
    allow_embeddings: bool = False
    """Whether embeddings, which are biometric data, may leave the server."""
    allow_host: tuple[str, ...] = ()
    """Names by which the server is reached through a reverse proxy."""
    workers: int = 1
    threads: int | None = None
    """CPU threads of one worker; None: the machine's cores over the workers."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not self.is_loopback and self.token_file is None and not self.no_auth:
            raise InputError(
                f"expected --token-file with --host {self.host}, which other machines can reach, found none; add one,"
                " or --no-auth where something else keeps strangers out"
            )
        if self.enrol and self.gallery is None:
            raise InputError("expected --gallery with --enrol, found none; name the file that people are enrolled in")
        if self.enrol and self.token_file is None:
            raise InputError(
                "expected --token-file with --enrol, found none: every change of the gallery needs a token, as any"
                " program and any web page on this machine can reach the port"
            )
        if self.fpir is not None and self.threshold is not None:
            raise InputError("expected --threshold or --fpir, found both; give one of them")
        if not 0 <= self.port < 65536:
            raise InputError(f"expected a --port from 0 to 65535, found {self.port}")
        if self.workers < 1 or (self.threads or 1) < 1:
            raise InputError("expected at least one worker and one thread")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the host."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def threads_each(self) -> int:
        """The CPU threads of one worker's inference."""
        return self.threads or max(1, cores() // self.workers)

    def token(self) -> str | None:
        """The token; a file that is missing is made with a new one, readable by its owner alone.

        InputError for a short token and for a file that others may read.
        """
        path = self.token_file
        if path is None:
            return None
        try:
            if not path.exists():
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(secrets.token_urlsafe(32) + "\n")
                log.info("wrote a new token to %s", path)
            token = path.read_text(encoding="ascii").split("\n")[0].strip()
            readable = path.stat().st_mode & 0o077
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"expected a token in ASCII in the first line of {path}, cannot read it ({error})"
            ) from None
        if len(token) < LEAST_TOKEN or " " in token:
            raise InputError(
                f"expected a token of at least {LEAST_TOKEN} characters without spaces in {path}, found one of"
                f" {len(token)}; delete the file, and `zoo serve` writes a new one"
            )
        if readable and os.name == "posix":
            raise InputError(f"expected {path} to be readable by its owner alone; run chmod 600 {path}")
        return token
