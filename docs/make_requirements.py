"""requirements-runtime.txt: what the photo commands need, without PyTorch, with all that it needs itself.

    python docs/make_requirements.py [--check]

NEEDED are dependencies of pyproject.toml; what each of them requires is read from the installed packages, and the
versions from constraints.txt. ONNX Runtime is the plain one, which other packages require too.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "requirements-runtime.txt"
NEEDED = (
    "huggingface-hub",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime-gpu",
    "opencv-python-headless",
    "pillow",
    "pyyaml",
    "rich",
    "scipy",
    "simplejpeg",
    "simsimd",
)
"""What `zoo verify`, `identify`, `index`, `embed`, `align`, `cluster` and `inspect` import."""


def closure(names: tuple[str, ...] = NEEDED) -> list[str]:
    """The packages and all that they require here, by name."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sorted(found)


def text() -> str:
    """The file."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    missing = set(NEEDED) - {canonicalize_name(Requirement(line).name) for line in declared}
    assert not missing, f"not among pyproject's dependencies: {missing}"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(m[1]): m[2] for line in lines if (m := re.match(r"([\w.-]+)==(\S+)", line))}
    head = (
        "# The photo commands without PyTorch, written by docs/make_requirements.py; after it, zoo's wheel alone:\n"
        "# pip install -r requirements-runtime.txt && pip install --no-deps timm_face_zoo-*.whl\n"
    )
    return head + "".join(f"{name.removesuffix('-gpu')}=={pins[name]}\n" for name in closure())


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if TARGET.read_text() == text() else f"{TARGET.name} is not up to date: run docs/make_requirements.py"
        )
    TARGET.write_text(text())
