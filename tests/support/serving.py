"""A server of the toy model: in the process of the test, or in one of its own that can be killed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from tests.support.toy_faces import LOOSE, STRICT, crop, write_model
from zoo.formats.images import encode_png
from zoo.modelinfo import ModelInfo
from zoo.serve import Limits, Settings, create_app

TOKEN = "t0ken-" + "x" * 40
AUTH = {"Authorization": f"Bearer {TOKEN}"}


def photo(seed: int, noise: int = 0, size: tuple[int, int] = (112, 112)) -> bytes:
    """A PNG of random tiles: one seed is one person."""
    return encode_png(crop(seed, size, noise))


def files(**contents: bytes) -> dict[str, tuple[str, bytes, str]]:
    """The fields of a form with pictures in them."""
    return {name: ("photo.png", content, "image/png") for name, content in contents.items()}


def settings(folder: Path, limits: dict[str, Any] | None = None, **options: Any) -> Settings:
    """A server of the toy model for aligned crops, with two thresholds, a token and a gallery that may change."""
    model, token = folder / "toy.onnx", folder / "token"
    if not model.exists():
        write_model(model, ModelInfo(48, thresholds=(STRICT, LOOSE)))
    if not token.exists():
        token.touch(0o600)
        token.write_text(TOKEN + "\n")
    given = {"token_file": token, "gallery": folder / "people.gallery", "enrol": True, "allow_embeddings": True}
    return Settings(model=model, aligned=True, **{**given, **options}, limits=Limits(**(limits or {})))


@contextlib.contextmanager
def client(wanted: Settings, base_url: str = "http://127.0.0.1:8000") -> Iterator[TestClient]:
    """A client of the application, without a network."""
    with TestClient(create_app(wanted), base_url=base_url, raise_server_exceptions=False) as found:
        yield found


def command(wanted: Settings, *words: str) -> list[str]:
    """The command line of `settings`' server on a free port."""
    told = ["serve", "--model", str(wanted.model), "--aligned", "--token-file", str(wanted.token_file), "--port", "0"]
    if wanted.gallery:
        told += ["--gallery", str(wanted.gallery), "--enrol"]
    return [sys.executable, "-m", "zoo", *told, *words]


class Server:
    """`zoo serve` in a process of its own; `url` is where it listens."""

    def __init__(self, wanted: Settings, *words: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.log = Path(str(wanted.model)).with_name("serve.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command(wanted, *words), stderr=log, stdout=log, env=environment)
        self.url = ""
        while not self.url:
            found = re.search(r"at (http://\S+?)/\n", self.log.read_text())
            self.url = found[1] if found else ""
            assert self.process.poll() is None or self.url, self.log.read_text()
        self.port = int(self.url.rsplit(":", 1)[1])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
