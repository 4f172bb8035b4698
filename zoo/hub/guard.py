"""What is not believed of a server: every answer is checked before the client acts on it, every file after it came.

A Hub's answers name files: the client stores a download under its ETag and in a folder named after the commit. So both
must be hashes, whoever sends them. Names of other hosts come from the server as well: redirects stay on https (or on
this machine), and the token stays at home.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zoo.errors import InputError

COMMIT = re.compile(r"[0-9a-f]{40}")
ETAG = re.compile(r'(?:W/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?')
"""Git's hash of a small file or the SHA-256 of a large one."""
EXTERNAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""A file name that stays in its folder on every system."""

_one_guard_at_a_time = threading.Lock()


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_safe_url(url: str, what: str) -> None:
    """InputError unless `url` is https, or plain http to this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return
    raise InputError(
        f"expected {what} to use https, found {parts.scheme}://{parts.hostname}; nothing was fetched from there"
    )


@contextlib.contextmanager
def guarded(commit: str | None = None) -> Iterator[None]:
    """While the block runs, huggingface_hub's client checks every request and every answer.

    `commit` is the one that files must belong to; None: any, but a hash. InputError, from inside the client, for an
    unsafe address, an ETag or a commit that is no hash, or another commit than the one that was asked for.
    """
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import _http

    require_safe_url(constants.ENDPOINT, "the Hub's address (HF_ENDPOINT)")
    home = origin(constants.ENDPOINT)

    def check_request(request: Any) -> None:
        require_safe_url(str(request.url), "the Hub")
        if origin(str(request.url)) != home:
            request.headers.pop("authorization", None)

    def check_answer(response: Any) -> None:
        found = response.headers.get("x-repo-commit")
        if found is not None and not (COMMIT.fullmatch(found) and commit in (None, found)):
            raise InputError(
                f"expected files of commit {commit or '(40 hex digits)'}, the server answers with {found[:60]!r}; "
                "nothing was stored: do not trust this server"
            )
        if "/resolve/" not in response.request.url.path:
            return
        tag = response.headers.get("x-linked-etag") or response.headers.get("etag")
        if tag is not None and not ETAG.fullmatch(tag):
            raise InputError(
                f"expected a hash as ETag of {response.request.url.path}, the server answers with {tag[:80]!r}; "
                "nothing was stored: do not trust this server"
            )
        # Xet transfers run outside this client, where none of this would be checked
        for name in ("x-xet-hash", "link"):
            response.headers.pop(name, None)

    with _one_guard_at_a_time:
        usual = _http._GLOBAL_CLIENT_FACTORY  # what a user's own program may have set; there is no public getter

        def guarded_client() -> Any:
            client = usual()
            client.event_hooks = {
                "request": [*client.event_hooks["request"], check_request],
                "response": [*client.event_hooks["response"], check_answer],
            }
            return client

        set_client_factory(guarded_client)
        try:
            yield
        finally:
            set_client_factory(usual)


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an address."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def require_content(file: Path) -> None:
    """InputError unless a cached file's content has the hash that it is stored under; a damaged one is deleted.

    The client stores a file as a link to blobs/HASH; where the system has no links there is nothing to compare with.
    """
    if not file.is_symlink():
        return
    blob = file.parent / os.readlink(file)
    named = ETAG.fullmatch(blob.name)
    if named is None or content_hash(blob, len(named[1])) == named[1]:
        return
    for damaged in (file, blob):
        damaged.unlink(missing_ok=True)
    raise InputError(
        f"expected {file.name} with the hash {blob.name[:12]}…, found other content; it was deleted: fetch it again,"
        " and if that repeats, do not trust this server"
    )


def content_hash(file: Path, digits: int) -> str:
    """The SHA-256 of a file (64 digits), or the hash that git gives it (40)."""
    size = file.stat().st_size
    digest = hashlib.sha256() if digits == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def external_files(model: Path) -> list[str]:
    """The names of the weight files that an ONNX file refers to.

    InputError where one is outside the model's own folder, or where the file is no ONNX model at all.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(str(model), load_external_data=False)
    except DecodeError:
        raise InputError(f"expected an ONNX model in {model.name}, found something else; it was not used") from None
    names = sorted({name for tensor in tensors_of(proto) if (name := location(tensor)) is not None})
    for name in names:
        if not EXTERNAL.fullmatch(name):
            raise InputError(
                f"expected the weights of {model.name} beside it, it refers to {name[:120]!r}; it was not used: do not "
                "trust this model"
            )
    return names


def location(tensor: Any) -> str | None:
    """Where a tensor's numbers lie, if outside the file."""
    from onnx import TensorProto

    if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
        return None
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def tensors_of(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in an ONNX message: initialisers, attributes, sub-graphs, functions, training graphs."""
    from google.protobuf.message import Message
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in (value,) if isinstance(value, Message) else value:
            yield from tensors_of(part)
