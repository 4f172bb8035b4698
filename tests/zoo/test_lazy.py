"""Public names that are imported at their first use."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

PACKAGES = ["zoo", "zoo.evaluate", "zoo.export", "zoo.recognition", "zoo.reproduce"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_none_is_a_submodules(package: str) -> None:
    module = importlib.import_module(package)
    submodules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert not submodules & set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None and name in dir(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_the_package_loads_none_of_its_modules(package: str) -> None:
    script = f"import sys, {package}; print(sorted(name for name in sys.modules if name.startswith('zoo.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stdout))
    parents = {package.rpartition(".")[0]} - {""}
    assert loaded <= {"zoo.lazy", package, *parents}
