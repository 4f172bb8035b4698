"""Which part of the project may import which, read from the source; test_imports.py enforces it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "zoo": ROOT / "zoo",
    "zoo.heads": ROOT / "heads",
    "zoo.export": ROOT / "export",
    "zoo.evaluate": ROOT / "evaluate",
}

LIGHT = {"numpy", "cv2"}
BASE = {"zoo.errors", "zoo.files", "zoo.registry", "zoo.spec"}
READERS = BASE | {"zoo.formats", "zoo.align", "zoo.detect"}

LAW: dict[str, tuple[set[str], set[str]]] = {
    # room: (rooms it may import beside itself, third-party packages it may import)
    "zoo": (set(), set()),
    "zoo.errors": (set(), set()),
    "zoo.files": ({"zoo.errors"}, set()),
    "zoo.registry": ({"zoo.errors"}, set()),
    "zoo.spec": ({"zoo.errors"}, LIGHT),
    "zoo.formats": (BASE, LIGHT | {"simplejpeg", "PIL", "pillow_heif"}),
    "zoo.align": (BASE, LIGHT),
    "zoo.detect": (BASE | {"zoo.formats"}, LIGHT | {"huggingface_hub"}),
    "zoo.evaluate": (
        READERS,
        LIGHT | {"PIL", "pyarrow", "faiss", "onnxruntime", "onnx", "google", "scipy", "matplotlib", "jinja2", "rich"},
    ),
    "zoo.heads": (BASE, {"torch", "numpy", "scipy"}),
    "zoo.backbones": (BASE | {"zoo.architectures"}, {"torch", "timm", "safetensors"}),
    "zoo.architectures": (BASE, {"torch", "timm"}),
    "zoo.data": (
        READERS,
        LIGHT
        | {
            "torch",
            "timm",
            "albumentations",
            "yaml",
            "rich",
            "webdataset",
            "pyarrow",
            "datasets",
            "filelock",
        },
    ),
    "zoo.export": (
        READERS | {"zoo.backbones", "zoo.data", "zoo.evaluate"},
        LIGHT | {"torch", "timm", "onnx", "google", "onnxscript", "onnxruntime", "safetensors", "rich", "onnxslim"},
    ),
    "zoo.train": (
        READERS | {"zoo.heads", "zoo.backbones", "zoo.data", "zoo.evaluate"},
        LIGHT | {"torch", "timm", "safetensors", "pydantic", "yaml", "rich", "matplotlib", "jinja2"},
    ),
    "zoo.hub": (
        READERS | {"zoo.backbones", "zoo.evaluate"},
        LIGHT | {"torch", "timm", "huggingface_hub", "safetensors", "jinja2", "onnx", "google", "yaml", "markdown_it"},
    ),
    "zoo.commands": ({"*"}, {"*"}),
    "zoo.cli": ({"zoo", "zoo.errors", "zoo.commands"}, set()),
    "zoo.__main__": ({"zoo.cli"}, set()),
}
"""The law of design.md. "*" stands for everything."""


def module_name(file: Path) -> str:
    """The import name of a source file at the repository's root, e.g. heads/arcface.py → zoo.heads.arcface."""
    for package, folder in sorted(FOLDERS.items(), key=lambda item: -len(str(item[1]))):
        if file.is_relative_to(folder):
            parts = file.relative_to(folder).with_suffix("").parts
            return ".".join([package, *(part for part in parts if part != "__init__")])
    raise ValueError(f"{file} is in none of the packages")


def room(module: str) -> str:
    """The room that a module of ours belongs to: the longest entry of LAW that leads its name."""
    return max((name for name in LAW if module == name or module.startswith(name + ".")), key=len)


def imports(source: str) -> set[str]:
    """Every absolute module that a source text imports, at the top or inside a function.

    `if TYPE_CHECKING:` blocks count too: a type that crosses a forbidden border is a dependency all the same.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.module == "zoo":  # `from zoo import x` may name a module
                found |= {f"zoo.{alias.name}" for alias in node.names if not alias.name.startswith("__")} or set()
            else:
                found.add(node.module or "")
    return found


def trespasses(module: str, source: str, stdlib: frozenset[str]) -> list[str]:
    """What `source`, as `module`, imports against the law; empty where it obeys."""
    mine = room(module)
    rooms, packages = LAW[mine]
    wrong = []
    for name in sorted(imports(source)):
        top = name.split(".")[0]
        if top in stdlib:
            continue
        if top == "zoo":
            there = room(name)
            if there not in (mine, "zoo") and there not in rooms and "*" not in rooms:
                wrong.append(f"{module} imports {name}")
        elif top not in packages and "*" not in packages:
            wrong.append(f"{module} imports {name}")
    return wrong


def sources() -> list[Path]:
    """Every Python file of the four packages, each once (the links inside zoo/ are left out)."""
    links = {FOLDERS["zoo"] / name for name in ("heads", "export", "evaluate")}
    return [
        file
        for folder in FOLDERS.values()
        for file in sorted(folder.rglob("*.py"))
        if not any(file.is_relative_to(link) and folder == FOLDERS["zoo"] for link in links)
    ]
