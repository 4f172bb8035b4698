"""Verification and a gallery over HTTP, with a page to try them in: FastAPI and uvicorn over the public Python API.

The names are imported at their first use: the web page needs no FastAPI.
"""

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.serve.app import create_app
    from zoo.serve.server import serve
    from zoo.serve.settings import Limits, Settings
    from zoo.serve.web import export_web

__all__ = ["Limits", "Settings", "create_app", "export_web", "serve"]
__getattr__, __dir__ = lazy(__name__, __file__)
