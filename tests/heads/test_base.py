"""How a head is built by name, also one of another package: pip-installs a tiny package with one that fails to load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT
from zoo.errors import InputError
from zoo.heads import build_head

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "tiny-heads"
version = "1.0"

[project.entry-points."zoo.heads"]
tiny = "tiny_heads:Tiny"
absent = "tiny_heads_absent:Absent"
arcface = "tiny_heads:Tiny"

[tool.setuptools]
py-modules = ["tiny_heads"]
"""

MODULE = '''
from torch import Tensor

from zoo.heads import MarginHead, check_range


class Tiny(MarginHead):
    """T = cos θ_y − m·(1 + cos θ_y)."""

    paper = "nobody, 2024"
    summary = "T = cos θ_y − m·(1 + cos θ_y)"

    def __init__(self, scale: float = 16.0, margin: float = 0.1) -> None:
        super().__init__(scale)
        self.margin = check_range("margin", margin, 0, 1)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return cos_y - self.margin * (1 + cos_y)
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package, to be put on the path."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "tiny_heads.py").write_text(MODULE)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(target), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def python(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_an_installed_head_is_built_listed_and_works_with_every_form_of_centres(installed: Path) -> None:
    code = """
import torch
from zoo.heads import HEADS, MarginSoftmaxLoss, build_head
x, y = torch.randn(5, 4), torch.arange(5)
values = [
    MarginSoftmaxLoss(build_head("tiny", margin=0.2), 9, 4, chunk_size=size, seed=1)(x, y) for size in (None, 2)
]
torch.testing.assert_close(*values)
print(build_head("tiny").describe(), "arcface" in HEADS, HEADS["arcface"].__module__)
"""
    done = python(code, installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "tiny(scale=16.0, margin=0.1) True zoo.heads.arcface"


def test_a_head_that_fails_to_import_names_its_package_and_the_rest_work(installed: Path) -> None:
    code = """
import sys
from zoo.cli import main
sys.exit(main(["list", "heads", "tiny"]))
"""
    done = python(code, installed)
    assert done.returncode == 0 and "nobody, 2024" in done.stdout
    assert "the package tiny-heads to provide the head absent" in done.stderr
    assert "'arcface' is registered already" in done.stderr
    done = python("from zoo.heads import build_head; build_head('absent')", installed)
    assert "InputError: expected the package tiny-heads" in done.stderr
    assert "No module named 'tiny_heads_absent'" in done.stderr


def test_an_unknown_head_names_the_closest_first() -> None:
    with pytest.raises(InputError, match="did you mean arcface"):
        build_head("arcfase")


def test_an_unknown_option_names_the_closest_first() -> None:
    with pytest.raises(InputError, match="no option of the head arcface is called 'margn'; did you mean margin"):
        build_head("arcface", margn=0.5)


def test_a_literal_option_lists_its_values() -> None:
    with pytest.raises(InputError, match="one of 'paper', 'derived', found 'printed'"):
        build_head("recurricularface", constants="printed")
