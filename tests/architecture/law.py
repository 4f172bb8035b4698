"""The law of the house: which room may import which, how large a room, a file and a function may be, and which tests
mirror which module. All of it is read from the source; nothing is imported.

A room is a folder by its own files, sub-folders apart; the light modules at the bottom of zoo/ are rooms of their own.
The rooms are listed from the ground up: a room may import only rooms that are named in its row, all of which stand
above it in the list, so that no circle and no arrow upwards can be written down at all.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.places import ROOT

FOLDERS = {
    "zoo": ROOT / "zoo",
    "zoo.heads": ROOT / "heads",
    "zoo.export": ROOT / "export",
    "zoo.evaluate": ROOT / "evaluate",
}

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 90
LARGEST_ROOM = 0.16
"""A share of the product's lines."""
MOST_LINES = 28_000
"""The bound for the product's lines with every open issue. `python -m tests.architecture` tells what is above it."""


@dataclass(frozen=True)
class Room:
    """A room of the house and what it may use."""

    name: str
    """The package or module, e.g. zoo.faces."""
    purpose: str
    """What is in it, for CONTRIBUTING's table."""
    rooms: tuple[str, ...] = ()
    """The rooms that it may import, beside itself; BASE and a room's own packages are written out by `law`."""
    packages: tuple[str, ...] = ()
    """The third-party packages that it may import."""


BASE = (
    "zoo.errors",
    "zoo.files",
    "zoo.lazy",
    "zoo.machine",
    "zoo.messages",
    "zoo.options",
    "zoo.registry",
    "zoo.modelinfo",
)
"""The light modules that every room may import."""
LIGHT = ("numpy", "cv2")

ROOMS = (
    Room("zoo.errors", "wrong input in one sentence"),
    Room("zoo.files", "atomic files, locks, the cache folder"),
    Room("zoo.lazy", "public names imported at their first use"),
    Room("zoo.machine", "cores and commit"),
    Room("zoo.messages", "the logger and the progress callback"),
    Room("zoo.options", "options declared once, as fields of a dataclass, and the parser of command lines"),
    Room("zoo.registry", "names of interchangeable things"),
    Room("zoo.modelinfo", "the facts that travel with a model", (), LIGHT),
    Room("zoo.runs", "run folders", (), ("safetensors", "yaml")),
    Room(
        "zoo.formats",
        "the field's file formats",
        (),
        (*LIGHT, "simplejpeg", "PIL", "pillow_heif", "pyarrow", "huggingface_hub"),
    ),
    Room("zoo.faces", "detection, alignment, quality, crops", ("zoo.formats",), (*LIGHT, "huggingface_hub")),
    Room(
        "zoo.inference",
        "ONNX Runtime sessions and embedding",
        ("zoo.formats",),
        (*LIGHT, "onnxruntime", "onnx", "google"),
    ),
    Room("zoo.hub", "guarded pulls from the Hugging Face Hub", ("zoo.inference",), ("huggingface_hub",)),
    Room(
        "zoo.backbones",
        "timm backbones with a face stem and neck",
        ("zoo.formats",),
        ("numpy", "torch", "timm", "safetensors"),
    ),
    Room(
        "zoo.resolve", "the one meaning of MODEL", ("zoo.runs", "zoo.hub", "zoo.inference", "zoo.backbones"), ("torch",)
    ),
    Room(
        "zoo.published",
        "models that others published: read, mapped, catalogued",
        ("zoo.formats", "zoo.backbones", "zoo.inference", "zoo.resolve"),
        (*LIGHT, "torch", "safetensors", "yaml", "onnx"),
    ),
    Room("zoo.heads", "margin heads and row-wise optimizers", (), ("torch", "numpy", "scipy", "triton")),
    Room(
        "zoo.heads.loss",
        "class centres: dense, chunked, fused on a GPU, sharded, sampled",
        ("zoo.heads",),
        ("torch", "numpy", "scipy", "triton"),
    ),
    Room("zoo.data.synthetic", "synthetic faces", ("zoo.formats", "zoo.faces"), LIGHT),
    Room(
        "zoo.evaluate",
        "exact metrics, similarity and intervals; never torch",
        ("zoo.formats", "zoo.faces"),
        (*LIGHT, "scipy"),
    ),
    Room(
        "zoo.evaluate.protocols",
        "one file a protocol",
        ("zoo.formats", "zoo.faces", "zoo.evaluate"),
        (*LIGHT, "scipy"),
    ),
    Room(
        "zoo.evaluate.report",
        "records, tables, figures and pages",
        ("zoo.formats", "zoo.evaluate", "zoo.evaluate.protocols"),
        (*LIGHT, "scipy", "matplotlib", "jinja2"),
    ),
    Room(
        "zoo.evaluate.benchmarks",
        "benchmarks as they lie on disk, and one model measured on many",
        (
            *("zoo.formats", "zoo.faces", "zoo.inference", "zoo.resolve", "zoo.data.synthetic"),
            *("zoo.evaluate", "zoo.evaluate.protocols", "zoo.evaluate.report"),
        ),
        (*LIGHT, "onnxruntime", "scipy"),
    ),
    Room(
        "zoo.data.rendered",
        "people rendered from a morphable model",
        ("zoo.formats", "zoo.faces"),
        (*LIGHT, "torch"),
    ),
    Room(
        "zoo.data",
        "training sets, augmentation, the loader",
        ("zoo.formats", "zoo.faces", "zoo.data.synthetic", "zoo.data.rendered"),
        (*LIGHT, "torch", "albumentations", "yaml", "webdataset", "pyarrow", "datasets"),
    ),
    Room(
        "zoo.recognition",
        "verification, galleries, batches of photos",
        ("zoo.formats", "zoo.faces", "zoo.inference", "zoo.resolve", "zoo.evaluate", "zoo.evaluate.report", "zoo.data"),
        (*LIGHT, "PIL", "pyarrow", "scipy", "simsimd", "qdrant_client"),
    ),
    Room(
        "zoo.serve",
        "verification and a gallery over HTTP, and the page",
        ("zoo.formats", "zoo.faces", "zoo.inference", "zoo.resolve", "zoo.recognition"),
        (*LIGHT, "fastapi", "starlette", "uvicorn", "pydantic", "onnx", "onnxruntime"),
    ),
    Room(
        "zoo.export",
        "ONNX and its parity proof",
        (
            *("zoo.runs", "zoo.formats", "zoo.inference", "zoo.backbones", "zoo.data", "zoo.data.synthetic"),
            *("zoo.resolve", "zoo.evaluate", "zoo.evaluate.protocols"),
        ),
        (*LIGHT, "torch", "timm", "onnx", "google", "onnxscript", "onnxruntime", "safetensors", "onnxslim"),
    ),
    Room(
        "zoo.train",
        "options, the loop, checkpoints",
        (
            *("zoo.runs", "zoo.formats", "zoo.inference", "zoo.backbones", "zoo.heads", "zoo.heads.loss", "zoo.data"),
            *(
                "zoo.data.synthetic",
                "zoo.data.rendered",
                "zoo.hub",
                "zoo.resolve",
                "zoo.evaluate",
                "zoo.evaluate.protocols",
            ),
            *("zoo.evaluate.report", "zoo.evaluate.benchmarks"),
        ),
        (*LIGHT, "torch", "timm", "safetensors", "pydantic", "yaml", "matplotlib", "jinja2", "wandb", "mlflow"),
    ),
    Room(
        "zoo.publish",
        "model cards and pushes",
        (
            *("zoo.runs", "zoo.hub", "zoo.inference", "zoo.backbones", "zoo.evaluate", "zoo.evaluate.report"),
            *("zoo.evaluate.protocols", "zoo.export", "zoo.train", "zoo.resolve", "zoo.faces", "zoo.recognition"),
        ),
        (*LIGHT, "torch", "huggingface_hub", "jinja2", "yaml", "markdown_it"),
    ),
    Room(
        "zoo.reproduce",
        "grids of trainings and their tables, and published figures measured again",
        (
            *(
                "zoo.runs",
                "zoo.data",
                "zoo.heads",
                "zoo.train",
                "zoo.export",
                "zoo.evaluate",
                "zoo.evaluate.report",
                "zoo.evaluate.benchmarks",
            ),
            *("zoo.evaluate.protocols", "zoo.resolve", "zoo.hub", "zoo.published"),
        ),
        (*LIGHT, "scipy", "matplotlib", "yaml"),
    ),
    Room("zoo.commands", "one file a command: arguments and printing", ("*",), ("*",)),
    Room("zoo.cli", "the console script"),
    Room("zoo", "the lazy names of `import zoo`", ("*",)),
    Room("zoo.__main__", "`python -m zoo`", ("zoo.cli",)),
)
"""Every room from the ground up; "*" stands for everything below."""

UNMIRRORED: dict[str, str] = {
    f"zoo.heads.{name}": "driven by the registry in tests/heads/test_heads.py"
    for name in ("arcface", "cosface", "curricularface", "mv_softmax", "softmax")
}
"""Modules that have no test file at the mirrored path, each with the reason."""


def module_name(file: Path) -> str:
    """The import name of a source file at the repository's root, e.g. heads/arcface.py → zoo.heads.arcface."""
    for package, folder in sorted(FOLDERS.items(), key=lambda item: -len(str(item[1]))):
        if file.is_relative_to(folder):
            parts = file.relative_to(folder).with_suffix("").parts
            return ".".join([package, *(part for part in parts if part != "__init__")])
    raise ValueError(f"{file} is in none of the packages")


def room_of(module: str) -> Room:
    """The room that a module of ours belongs to: the longest name that leads its name."""
    return max(
        (room for room in ROOMS if module == room.name or module.startswith(room.name + ".")), key=lambda r: len(r.name)
    )


def imports(source: str) -> set[str]:
    """Every absolute module that a source text imports, at the top or inside a function.

    `if TYPE_CHECKING:` blocks count too: a type that crosses a forbidden border is a dependency all the same.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {f"{module}.{alias.name}" if module.split(".")[0] == "zoo" else module for alias in node.names}
    return found


def trespasses(module: str, source: str, facade: bool = False) -> list[str]:
    """What `source`, as `module`, imports against the law; empty where it obeys.

    A package's own __init__ (`facade`) may offer the names of its sub-packages.
    """
    mine = room_of(module)
    below = ROOMS[: ROOMS.index(mine)]
    allowed = {mine.name, "zoo.errors"} if mine.name in BASE else {mine.name, "zoo", *BASE, *mine.rooms}
    if "*" in mine.rooms:
        allowed |= {room.name for room in below}
    wrong = []
    for name in sorted(imports(source)):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names:
            continue
        if top == "zoo":
            there = room_of(name).name
            if there not in allowed and not (facade and there.startswith(mine.name + ".")):
                wrong.append(f"{module} imports {name}")
            elif mine.name == "zoo.commands" and there == "zoo.commands" and not _shared(module, name):
                wrong.append(f"{module} imports another command, {name}")
        elif top not in mine.packages and "*" not in mine.packages:
            wrong.append(f"{module} imports {name}")
    return wrong


SHARED_BY_COMMANDS = ("zoo.commands.options",)


def _shared(module: str, name: str) -> bool:
    return module == "zoo.commands" or name == module or name.startswith(SHARED_BY_COMMANDS)


def sources() -> list[Path]:
    """Every Python file of the four packages, each once (the links inside zoo/ are left out)."""
    links = [FOLDERS["zoo"] / name for name in ("heads", "export", "evaluate")]
    return [
        file
        for name, folder in FOLDERS.items()
        for file in sorted(folder.rglob("*.py"))
        if not (name == "zoo" and any(file.is_relative_to(link) for link in links))
    ]


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def folder_sizes() -> dict[str, int]:
    """The lines of every folder by its own files, largest first."""
    sizes: dict[str, int] = {}
    for file in sources():
        name = str(file.parent.relative_to(ROOT))
        sizes[name] = sizes.get(name, 0) + lines(file)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def long_files() -> list[str]:
    """Files above the limit."""
    return [f"{file.relative_to(ROOT)}: {lines(file)}" for file in sources() if lines(file) > MOST_LINES_OF_A_FILE]


def long_functions() -> list[str]:
    """Functions above the limit, from `def` to the last line."""
    found = []
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MOST_LINES_OF_A_FUNCTION:
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {length}")
    return found


def arrows() -> dict[str, set[str]]:
    """Which folder imports which, from the source; what a package's __init__ offers of its own sub-folders is none."""
    found: dict[str, set[str]] = {}
    by_module = {module_name(file): file for file in sources()}
    for module, file in by_module.items():
        here = str(file.parent.relative_to(ROOT))
        for name in imports(file.read_text(encoding="utf-8")):
            target = by_module.get(name) or by_module.get(name.rpartition(".")[0])
            if target is None:
                continue
            there = str(target.parent.relative_to(ROOT))
            offered = file.name == "__init__.py" and name.startswith(module + ".")
            if there != here and not offered:
                found.setdefault(here, set()).add(there)
    return found


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Pairs of folders that reach each other; empty where the arrows have one direction."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for there in graph.get(waiting.pop(), ()):
                if there not in seen:
                    seen.add(there)
                    waiting.append(there)
        return seen

    reach = {folder: reached(folder) for folder in graph}
    return sorted(f"{a} ↔ {b}" for a in graph for b in reach[a] if a < b and a in reach.get(b, ()))


def test_file(file: Path) -> Path:
    """Where the tests of a module lie: heads/loss/chunked.py → tests/heads/loss/test_chunked.py."""
    inside = file.relative_to(ROOT)
    return ROOT / "tests" / inside.parent / f"test_{inside.name}"


def without_tests() -> list[str]:
    """Modules that have neither a test file at the mirrored path nor a reason in UNMIRRORED."""
    return [
        module_name(file)
        for file in sources()
        if file.name not in ("__init__.py", "__main__.py")
        and not test_file(file).is_file()
        and module_name(file) not in UNMIRRORED
    ]


def table() -> str:
    """The law as CONTRIBUTING.md shows it."""
    rows = ["| room | what is in it | may import |", "|---|---|---|"]
    for room in ROOMS:
        rooms = ["everything below it" if name == "*" else f"`{name}`" for name in room.rooms]
        packages = [name for name in room.packages if name != "*"]
        rows.append(f"| `{room.name}` | {room.purpose} | {', '.join([*rooms, *packages]) or '–'} |")
    return "\n".join(rows) + "\n"
