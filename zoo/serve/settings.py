"""What a server serves, to whom, and within which limits."""

import math
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError, explained
from zoo.inference.convention import GivenInput
from zoo.machine import cores, is_loopback
from zoo.messages import log
from zoo.options import option
from zoo.recognition.threshold import far_for

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LEAST_TOKEN = 32  #: Characters of a token: `secrets.token_urlsafe(32)` has 43


@dataclass(frozen=True)
class Limits:
    """What one client may ask for, and how much a server takes on at once."""

    max_body: float = option(16.0, "the largest request in megabytes", "MB")
    max_pixels: float = option(50.0, "the largest picture in megapixels", "MP")
    max_faces: int = option(32, "the most faces of one picture that are embedded", "N")
    max_seconds: float = option(30.0, "the longest that a request may take to arrive, to wait, or to be computed", "S")
    concurrent: int = option(4, "requests that one worker computes at once", "N")
    queue: int = option(32, "requests that wait in one worker; more are refused with 503", "N")
    connections: int = option(512, "open connections of one worker; more are refused with 503", "N")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf and (name, value) != ("queue", 0):
                raise InputError(f"expected --{name.replace('_', '-')} finite and above zero, found {value}")

    @property
    def body_bytes(self) -> int:
        return int(self.max_body * 1e6)


@dataclass(frozen=True)
class Settings:
    """What a server was asked for; `model`, `detector`, `face`, `aligned` and `input` are those of `FaceVerifier`."""

    model: str | Path | None = None
    detector: str | Path | None = None
    face: str = "largest"
    aligned: bool = False
    input: GivenInput | None = None
    gallery: str | Path | None = option(None, "identify in this gallery; --enrol makes a missing one", "GALLERY")
    far: float | None = option(None, "verify at this false accept rate", "RATE")
    fpir: float | None = option(None, "identify at this false positive identification rate", "RATE")
    threshold: float | None = option(None, "use this cosine similarity instead", "COSINE")
    host: str = option("127.0.0.1", "the address to listen on", "HOST")
    port: int = option(8000, "the port to listen on", "PORT")
    token_file: Path | None = option(None, "the token in its first line; a missing file is made with a new one", "FILE")
    no_auth: bool = option(False, "serve another --host without a token")
    enrol: bool = option(False, "let holders of the token enrol and remove people")
    allow_embeddings: bool = option(False, "give out embeddings, which are biometric data")
    workers: int = option(1, "processes", "N")
    threads: int | None = option(None, "CPU threads of one worker (default: the cores over the workers)", "N")
    allow_host: tuple[str, ...] = ()  #: Names by which the server is reached through a reverse proxy
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not self.is_loopback and self.token_file is None and not self.no_auth:
            found = "found none; add one, or --no-auth where something else keeps strangers out"
            raise InputError(f"expected --token-file with --host {self.host}, which other machines can reach, {found}")
        if self.enrol and self.gallery is None:
            raise InputError("expected --gallery with --enrol, found none; name the file that people are enrolled in")
        if self.enrol and self.token_file is None:
            why = "needs a token, as any program and any web page on this machine can reach the port"
            raise InputError(f"expected --token-file with --enrol, found none: every change of the gallery {why}")
        if self.fpir is not None and self.threshold is not None:
            raise InputError("expected --threshold or --fpir, found both; give one of them")
        if self.fpir is not None:
            far_for(self.fpir, 1)  # InputError for what is no rate
        if not 0 <= self.port < 65536:
            raise InputError(f"expected a --port from 0 to 65535, found {self.port}")
        if min(self.workers, 1 if self.threads is None else self.threads) < 1:
            raise InputError("expected at least one worker and one thread")

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

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
        unread = f"expected a token in ASCII in the first line of {path}, cannot read it"
        with explained(unread, OSError, UnicodeDecodeError):
            if not path.exists():
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(secrets.token_urlsafe(32) + "\n")
                log.info("wrote a new token to %s", path)
            token = path.read_text(encoding="ascii").split("\n")[0].strip()
            readable = path.stat().st_mode & 0o077
        if len(token) < LEAST_TOKEN or " " in token:
            found = f"found one of {len(token)}; delete the file, and `zoo serve` writes a new one"
            raise InputError(f"expected a token of at least {LEAST_TOKEN} characters without spaces in {path}, {found}")
        if readable and os.name == "posix":
            raise InputError(f"expected {path} to be readable by its owner alone; run chmod 600 {path}")
        return token
