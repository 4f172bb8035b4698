"""Verification and a gallery over HTTP, with a page to try them in: FastAPI and uvicorn over the public Python API."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.serve.app import create_app as create_app
    from zoo.serve.server import serve as serve
    from zoo.serve.settings import Limits as Limits
    from zoo.serve.settings import Settings as Settings

LAZY = {
    "Limits": "settings",
    "Settings": "settings",
    "create_app": "app",
    "serve": "server",
}
"""Public names and their modules, imported at the first use: the web page needs no FastAPI."""

__all__ = sorted(LAZY)


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(f"zoo.serve.{LAZY[name]}"), name)
    raise AttributeError(f"module 'zoo.serve' has no attribute {name!r}")
