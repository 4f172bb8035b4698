"""The page's own files: markup, style and script, served by `zoo serve` and written by `zoo export --web`."""

from importlib import resources
from typing import Literal

SHARED = ("index.html", "page.js", "style.css", "icon.svg")


def page_files(backend: Literal["server", "browser"]) -> dict[str, bytes]:
    """The files by name; backend.js, which answers the page's questions, asks the server or computes in the browser."""
    folder = resources.files("zoo.serve.page")
    files = {name: (folder / name).read_bytes() for name in SHARED}
    if backend == "browser":
        files["vision.js"] = (folder / "vision.js").read_bytes()
    return files | {"backend.js": (folder / f"backend-{backend}.js").read_bytes()}
