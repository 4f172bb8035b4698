"""The light install: the wheel and requirements-runtime.txt alone, in a virtual environment without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.toy_faces import write_town

COMMANDS = """
import json, sys
from zoo.cli import main
codes = {name: main(words) for name, words in json.loads(sys.argv[1]).items()}
heavy = [name for name in ("torch", "timm", "albumentations", "pandas") if name in sys.modules]
import importlib.util
there = [name for name in ("torch", "timm", "albumentations") if importlib.util.find_spec(name)]
print("ANSWER", json.dumps({"codes": codes, "heavy": heavy, "there": there, "zoo": sys.modules["zoo"].__file__}))
"""


def packages() -> list[str]:
    lines = (ROOT / "requirements-runtime.txt").read_text().splitlines()
    return [line.split("==")[0] for line in lines if not line.startswith("#")]


def test_the_list_is_what_pyproject_and_the_installed_packages_say() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_requirements.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in packages() and not {"torch", "timm", "onnxruntime-gpu"} & set(packages())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = ["wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *words], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def linked(environment: Path, wheel: Path) -> Path:
    """The Python of a new environment with the listed packages, linked from this one, and the wheel: no network."""
    venv.create(environment, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    for name in packages():
        try:
            found = distribution(name)
        except PackageNotFoundError:
            found = distribution(f"{name}-gpu")
        for top in {Path(file).parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            source = Path(str(found.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    return environment / "bin" / "python"


def check(python: Path, folder: Path, detector: Path | None) -> None:
    """Every photo command works under `python`, which has no PyTorch."""
    town = write_town(folder)
    (town / "pairs.csv").write_text("a,b,same\nada.png,people/Ada/0.png,1\nada.png,bob.png,0\n")
    model = ["--model", "model.onnx", "--aligned"]
    commands = {
        "verify": ["verify", "ada.png", "people/Ada/0.png", *model, "--threshold", "0.9"],
        "pairs": ["verify", "--pairs", "pairs.csv", *model],
        "index": ["index", "people", "-o", "g", *model],
        "identify": ["identify", "bob.png", "--gallery", "g", *model, "--threshold", "0.9", "--draw", "o.png"],
        "embed": ["embed", "people", "-o", "table.npz", *model],
        "inspect": ["inspect", "model.onnx"],
    }
    if detector:
        photos = detector.parents[1] / "photos"
        commands["align"] = ["align", str(photos), "crops", "--detector", str(detector)]
    done = subprocess.run(
        [python, "-I", "-c", COMMANDS, json.dumps(commands)], cwd=town, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.rpartition("ANSWER ")[2])
    assert set(answer["codes"].values()) == {0} and answer["heavy"] == answer["there"] == []
    assert str(python.parents[1]) in answer["zoo"]


def test_photo_commands_run_from_the_wheel_and_the_listed_packages_alone(
    wheel: Path, shared: Path, tmp_path: Path
) -> None:
    detector = shared / "models" / "face_detection_yunet_2026may.onnx"
    (tmp_path / "work").mkdir()
    check(linked(tmp_path / "light", wheel), tmp_path / "work", detector)


def test_a_listed_package_is_needed(wheel: Path, tmp_path: Path) -> None:
    """The twin: without simsimd the same environment fails, so nothing comes from elsewhere."""
    python = linked(tmp_path / "light", wheel)
    (site,) = (tmp_path / "light").glob("lib/python*/site-packages")
    for file in site.glob("simsimd*"):
        file.unlink()
    (tmp_path / "work").mkdir()
    with pytest.raises(AssertionError):
        check(python, tmp_path / "work", None)


@pytest.mark.soak
def test_photo_commands_run_after_a_real_installation(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "light", with_pip=True)
    python = tmp_path / "light" / "bin" / "python"
    for words in (["-r", str(ROOT / "requirements-runtime.txt")], ["--no-deps", str(wheel)]):
        subprocess.run([python, "-I", "-m", "pip", "install", "-q", *words], check=True)
    size = sum(file.stat().st_size for file in (tmp_path / "light").rglob("*") if not file.is_symlink())
    print(f"{size / 2**20:.0f} MiB")
    assert size < 700 * 2**20
    (tmp_path / "work").mkdir()
    check(python, tmp_path / "work", None)
