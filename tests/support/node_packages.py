"""Packages of npm that a test needs, kept in pytest's cache; the test is skipped where they cannot be installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

VERSIONS = {"axe-core": "4.14.1", "onnxruntime-web": "1.30.0"}


def installed(name: str, cache: pytest.Cache) -> Path:
    """The folder of a package in its pinned version."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    folder = Path(cache.mkdir(f"npm-{name}-{VERSIONS[name]}"))
    package = folder / "node_modules" / name
    if not (package / "package.json").exists():
        command = ["npm", "install", "--silent", "--ignore-scripts", "--no-package-lock", "--prefix", str(folder)]
        done = subprocess.run([*command, f"{name}@{VERSIONS[name]}"], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{name} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return package
