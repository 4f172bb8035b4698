"""The direction of imports is law (CONTRIBUTING.md draws it), read here from the source and from real processes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture import law
from tests.architecture.contributing import written
from tests.support.places import ROOT

HEAVY = ("torch", "timm", "albumentations")


@pytest.mark.parametrize("file", law.sources(), ids=law.module_name)
def test_every_module_imports_only_what_its_room_may(file: Path) -> None:
    assert law.trespasses(law.module_name(file), file.read_text(), file.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zoo.evaluate.metrics", "import torch"),
        ("zoo.evaluate.metrics", "def f():\n    from torch import nn"),
        ("zoo.evaluate.protocols.pairs", "from zoo.backbones import create_backbone"),
        ("zoo.heads.arcface", "from zoo.train.loop import train"),
        ("zoo.heads.arcface", "from zoo.heads.loss import chunked"),
        ("zoo.heads.arcface", "import timm.layers"),
        ("zoo.modelinfo", "from zoo import backbones"),
        ("zoo.formats.bins", "import pandas"),
        ("zoo.commands.push", "from zoo.commands.card import run"),
    ],
)
def test_the_law_can_be_broken(module: str, source: str) -> None:
    assert len(law.trespasses(module, source)) == 1


def test_every_row_of_the_law_names_rooms_below_it() -> None:
    known: set[str] = set()
    for room in law.ROOMS:
        assert set(room.rooms) - {"*"} <= known | {"zoo"}, room.name
        known.add(room.name)


def test_no_two_folders_import_each_other() -> None:
    assert law.circles(law.arrows()) == []
    assert law.circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a ↔ b", "a ↔ c", "b ↔ c"]


def test_no_room_no_file_and_no_function_is_too_large() -> None:
    sizes = law.folder_sizes()
    total = sum(sizes.values())
    assert total <= law.MOST_LINES
    assert {name: size for name, size in sizes.items() if size > law.LARGEST_ROOM * total} == {}
    assert law.long_files() == []
    assert law.long_functions() == []


def test_every_module_has_its_tests_at_the_mirrored_path_or_a_reason() -> None:
    assert law.without_tests() == []
    for module, reason in law.UNMIRRORED.items():
        assert reason and any(law.module_name(file) == module for file in law.sources()), module
        assert not any(law.module_name(file) == module and law.test_file(file).exists() for file in law.sources())


def test_the_table_of_contributing_is_the_law() -> None:
    assert written() == law.table()


def loaded_after(code: str) -> set[str]:
    """The top-level modules in a fresh interpreter that ran `code`, whatever it printed or exited with."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "import zoo",
        "import zoo.evaluate, zoo.inference.session, zoo.evaluate.protocols.pairs, zoo.recognition.verifier",
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
    found = {law.module_name(file.parent / "__init__.py") for file in law.sources()}
    folders, suffixes = law.FOLDERS.values(), (".yaml", ".j2", ".css")
    data = {file for folder in folders for file in folder.rglob("*") if file.suffix in suffixes}
    models = {"zoo.model_cards"}  # the model that comes with zoo: data alone
    assert listed == found | models | {law.module_name(file.parent / "__init__.py") for file in data}
    for file in data:
        patterns = setuptools["package-data"][law.module_name(file.parent / "__init__.py")]
        assert any(file.match(pattern) for pattern in patterns), file
    assert all((ROOT / "zoo" / name).is_symlink() for name in ("heads", "export", "evaluate"))
    assert set(law.FOLDERS) <= listed
