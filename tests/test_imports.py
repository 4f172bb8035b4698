"""The direction of imports is law (CONTRIBUTING.md draws it), read here from the source and from real processes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.imports import FOLDERS, ROOT, module_name, sources, trespasses

HEAVY = ("torch", "timm", "albumentations")


@pytest.mark.parametrize("file", sources(), ids=module_name)
def test_every_module_imports_only_what_its_room_may(file: Path) -> None:
    assert trespasses(module_name(file), file.read_text(), sys.stdlib_module_names) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zoo.evaluate.metrics", "import torch"),
        ("zoo.evaluate.metrics", "def f():\n    from torch import nn"),
        ("zoo.evaluate.protocols.pairs", "from zoo.backbones import create_backbone"),
        ("zoo.heads.arcface", "from zoo.train.loop import train"),
        ("zoo.heads.arcface", "import timm.layers"),
        ("zoo.spec", "from zoo import backbones"),
        ("zoo.formats.bins", "import pandas"),
    ],
)
def test_the_law_can_be_broken(module: str, source: str) -> None:
    assert len(trespasses(module, source, sys.stdlib_module_names)) == 1


def loaded_after(code: str) -> set[str]:
    """The top-level modules in a fresh interpreter that ran `code`, whatever it printed or exited with."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "import zoo",
        "import zoo.evaluate, zoo.evaluate.session, zoo.evaluate.protocols.pairs, zoo.evaluate.verify",
        "from zoo.cli import main; main(['--help'])",
        "from zoo.cli import main; main(['verify', '--help'])",
        "from zoo.cli import main; main(['verify', 'no.jpg', 'such.jpg', '--model', 'no.onnx'])",
        "from zoo.cli import main; main(['evaluate', 'no.onnx', '--data', 'no.bin'])",
        "from zoo.cli import main; main(['train', '--help'])",
    ],
)
def test_light_commands_load_neither_torch_nor_timm_nor_albumentations(code: str) -> None:
    assert not loaded_after(code).intersection(HEAVY)


def test_a_heavy_import_would_be_seen() -> None:
    assert "torch" in loaded_after("import zoo.heads")


def test_every_folder_with_python_files_or_data_is_packaged() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(setuptools["packages"])
    found = {module_name(file.parent / "__init__.py") for file in sources()}
    data = {file for suffix in ("yaml", "j2") for file in (ROOT / "zoo").rglob(f"*.{suffix}")}
    assert listed == found | {module_name(file.parent / "__init__.py") for file in data}
    for file in data:
        patterns = setuptools["package-data"][module_name(file.parent / "__init__.py")]
        assert any(file.match(pattern) for pattern in patterns), file
    assert all((ROOT / "zoo" / name).is_symlink() for name in ("heads", "export", "evaluate"))
    assert set(FOLDERS) <= listed
