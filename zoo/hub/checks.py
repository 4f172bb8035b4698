"""Checks of a server that is not trusted: of every answer before the client uses it, of every file after it arrived.

The client stores a download under the ETag and in a folder named after the commit that a server sends: both must be
hashes. Redirects stay on https (or on this machine), and the token is sent to the Hub alone.
"""

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zoo.errors import InputError
from zoo.machine import is_loopback

COMMIT = re.compile(r"[0-9a-f]{40}")
ETAG = re.compile(r'(?:W/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?')  #: Git's hash of a small file, the SHA-256 of a large one
EXTERNAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")  #: A file name that stays in its folder on every system
MOST_BYTES = 8 * 2**30  #: The most bytes of all files of a pull: some hundred times a large face model
MOST_TOLD = 64 * 2**20  #: The most bytes of an answer that is not a file, such as a list of files
MOST_STARTS = 12  #: Transfers of one file, resumed ones too: the client retries for as long as a few bytes come

_one_guard_at_a_time = threading.Lock()


def require_safe_url(url: str, what: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        found = f"found {parts.scheme}://{parts.hostname}; nothing was fetched from there"
        raise InputError(f"expected {what} to use https, {found}")


@dataclass
class Guard:
    """The checks of one guarded block, as hooks of the client, and what the server announced of the block's file."""

    home: tuple[str, str, int]  #: The Hub's own scheme, host and port: the token is sent nowhere else
    commit: str | None
    most_bytes: int
    etag: str | None = None  #: The hash in the file's ETag, 40 or 64 hex digits
    size: int | None = None
    starts: int = 0  #: How many answers with its content began

    def check_request(self, request: Any) -> None:
        """Keeps every request on https (or on this machine), and the token from other hosts."""
        require_safe_url(str(request.url), "the Hub")
        if origin(str(request.url)) != self.home:
            request.headers.pop("authorization", None)

    def check_answer(self, response: Any) -> None:
        """Refuses answers of another commit, without a hash, or of more bytes than allowed."""
        found, advice = response.headers.get("x-repo-commit"), "nothing was stored: do not trust this server"
        if found is not None and not (COMMIT.fullmatch(found) and self.commit in (None, found)):
            wanted = f"files of commit {self.commit or '(40 hex digits)'}"
            raise InputError(f"expected {wanted}, the server answers with {found[:60]!r}; {advice}")
        self.limit_body(response)
        path = response.request.url.path
        if "/resolve/" not in path:
            return
        tag = response.headers.get("x-linked-etag") or response.headers.get("etag")
        match = ETAG.fullmatch(tag) if tag is not None else None
        if tag is not None and match is None:
            raise InputError(f"expected a hash as ETag of {path}, the server answers with {tag[:80]!r}; {advice}")
        # Xet transfers run outside this client, where none of this would be checked
        for name in ("x-xet-hash", "link"):
            response.headers.pop(name, None)
        if response.request.method == "HEAD" and response.status_code < 400:
            size = response.headers.get("x-linked-size") or response.headers.get("content-length") or ""
            self.etag, self.size = match and match[1], int(size) if size.isdecimal() else None
            if self.size is not None and self.size > self.most_bytes:
                most = f"at most {self.most_bytes:,} bytes more in this pull"
                told = f"the server announces {self.size:,} for {path}; it was not fetched"
                raise InputError(f"expected {most}, {told}: choose another model or raise --max-bytes")

    def limit_body(self, response: Any) -> None:
        """Lets the client read no more of an unpacked body than was announced, whatever the server sends."""
        path, size, most = response.request.url.path, self.size, MOST_TOLD
        told = path.startswith("/api/models/") and origin(str(response.request.url)) == self.home  # no file, but facts
        if size is not None and not told and response.request.method == "GET" and response.status_code < 300:
            begun = re.fullmatch(r"bytes=(\d+)-\d*", response.request.headers.get("range", ""))
            most = max(0, size - (int(begun[1]) if begun and response.status_code == 206 else 0))
            self.starts += 1
            if self.starts > MOST_STARTS:
                broken = f"the server broke off {MOST_STARTS} times"
                raise InputError(f"expected {size:,} bytes of {path}, {broken}; nothing was stored: try again later")
        read = response.iter_bytes

        def no_more_than_announced(chunk_size: int | None = None) -> Iterator[bytes]:
            left = most
            for chunk in read(chunk_size):
                left -= len(chunk)
                if left < 0:
                    advice = "it was cut off and nothing was stored: do not trust this server"
                    raise InputError(f"expected at most {most:,} bytes from {path}, the server sends more; {advice}")
                yield chunk

        response.iter_bytes = no_more_than_announced


@contextlib.contextmanager
def guarded(commit: str | None = None, most_bytes: int = MOST_BYTES) -> Iterator[Guard]:
    """While the block runs, huggingface_hub's client checks every request and every answer.

    `commit` is the one that files must belong to; None: any hash. `most_bytes` is the most that the file of this block
    may have. InputError, from inside the client, for an unsafe address, an ETag or a commit that is no hash, another
    commit than the one that was asked for, or a body that is longer than it was announced or may be.
    """
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import _http

    require_safe_url(constants.ENDPOINT, "the Hub's address (HF_ENDPOINT)")
    guard = Guard(origin(constants.ENDPOINT), commit, most_bytes)
    with _one_guard_at_a_time:
        usual = _http._GLOBAL_CLIENT_FACTORY  # what a user's own program may have set; there is no public getter

        def guarded_client() -> Any:
            client = usual()
            own = {"request": guard.check_request, "response": guard.check_answer}
            client.event_hooks = {kind: [*client.event_hooks[kind], check] for kind, check in own.items()}
            return client

        set_client_factory(guarded_client)
        try:
            yield guard
        finally:
            set_client_factory(usual)


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an address."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def require_content(file: Path, etag: str | None = None) -> None:
    """InputError unless a cached file's content has the hash `etag` and the one that it is stored under.

    A damaged one is deleted. The client stores a file as a link to blobs/HASH; else only a new one has an `etag`.
    """
    blob = file.parent / os.readlink(file) if file.is_symlink() else file
    named = ETAG.fullmatch(blob.name) if blob != file else None
    hashes = {digits for digits in (etag, named and named[1]) if digits}
    wrong = [digits for digits in hashes if content_hash(blob, len(digits)) != digits]
    if not wrong:
        return
    for damaged in (file, blob):
        damaged.unlink(missing_ok=True)
    advice = "it was deleted: fetch it again, and if that repeats, do not trust this server"
    raise InputError(f"expected {file.name} with the hash {wrong[0][:12]}…, found other content; {advice}")


def content_hash(file: Path, digits: int) -> str:
    """The SHA-256 of a file (64 digits), or the hash that git gives it (40)."""
    blob = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with open(file, "rb") as content:
        return hashlib.file_digest(content, hashlib.sha256 if digits == 64 else lambda: blob).hexdigest()


def require_weights_beside(model: Path) -> list[str]:
    """The weight files that an ONNX file names; InputError for one outside the model's folder, and for no ONNX file."""
    from zoo.inference.metadata import external_files, load_proto

    names = external_files(load_proto(model))
    for name in names:
        if not EXTERNAL.fullmatch(name):
            advice = "it was not used: do not trust this model"
            raise InputError(f"expected the weights of {model.name} beside it, it refers to {name[:120]!r}; {advice}")
    return names
