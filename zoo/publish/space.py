"""`zoo push --space`: a Gradio Space that compares two photos with the model, over FaceVerifier."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.evaluate.report.page import templates
from zoo.faces.detect import load_detector
from zoo.files import write_bytes, write_text
from zoo.hub.checks import guarded
from zoo.hub.pull import ONNX, parse_id, quiet_unless_watched
from zoo.publish.card import License
from zoo.publish.push import Plan, Pushed, refusals_told, stage_onnx
from zoo.recognition import FaceVerifier
from zoo.resolve import onnx_file

REQUIREMENTS = (
    "gradio",
    "huggingface-hub>=1.0",
    "numpy>=2.0",
    "onnx>=1.19",
    "onnxruntime>=1.23",
    "opencv-python-headless>=4.10",
    "pillow>=11",
    "pyyaml>=6.0",
    "rich>=13.7",
    "simplejpeg>=1.8",
)  #: What the photo commands need: no PyTorch


def publish_space(
    model: str | Path | None,
    repo: str,
    license: License,
    wheel: str | Path,
    *,
    private: bool = False,
    dry_run: bool = False,
    **demo: Any,
) -> tuple[Plan, Pushed | None]:
    """Publishes a demo of MODEL (see `zoo.resolve`) as the Space owner/name; None in place of the commit for `dry_run`.

    The Space holds the ONNX file with the license in its facts, the face detector, and the package's `wheel`, which is
    on no index. `demo` are `detector` and `threshold` of FaceVerifier. InputError for a model without a proof, a file
    that is no wheel of zoo, and what the Hub refuses.
    """
    if parse_id(repo).repo != repo:
        raise InputError(f"expected the Space's name on the Hub as owner/name, found {repo!r}")
    with tempfile.TemporaryDirectory(prefix="zoo-space-") as temporary:
        names = stage_space(model, Path(temporary), repo, license, wheel, **demo)
        plan = Plan(repo, {name: (Path(temporary) / name).stat().st_size for name in names})
        if dry_run:
            return plan, None
        with refusals_told(repo), guarded(), quiet_unless_watched():
            from huggingface_hub import HfApi

            api = HfApi()
            api.create_repo(repo, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
            before = api.space_info(repo, timeout=20).sha
            place: dict[str, Any] = {"repo_id": repo, "repo_type": "space", "folder_path": temporary}
            made = api.upload_folder(**place, commit_message="Publish the demo", delete_patterns="*.whl")
        return plan, Pushed(repo, made.oid, made.oid != before, made.commit_url)


def stage_space(
    model: str | Path | None,
    folder: Path,
    repo: str,
    license: License,
    wheel: str | Path,
    *,
    detector: str | Path | None = None,
    threshold: float | None = None,
) -> list[str]:
    """Writes the Space's files into the empty `folder`; returns the names."""
    wheel = Path(wheel)
    if not (wheel.name.startswith("timm_face_zoo-") and wheel.suffix == ".whl" and wheel.is_file()):
        raise InputError(f"expected zoo's wheel, found {wheel}; build one with `pip wheel --no-deps .` in its sources")
    source, yunet = onnx_file(model), load_detector(detector)
    FaceVerifier(source, yunet, threshold=threshold)  # whatever is wrong is said now, not by the Space
    staged = folder / "staged"
    staged.mkdir()
    shutil.copyfile(source, staged / ONNX)
    stage_onnx(staged / ONNX, folder, license)
    shutil.rmtree(staged)
    write_bytes(folder / "detector.onnx", yunet.content)
    shutil.copyfile(wheel, folder / wheel.name)
    write_text(folder / "requirements.txt", "\n".join(REQUIREMENTS) + "\n")
    names: dict[str, Any] = {"title": repo.split("/")[1], "license": license, "threshold": threshold}
    environment = templates("zoo.publish", autoescape=False, keep_trailing_newline=True)
    for name, template in (("app.py", "space_app.py.j2"), ("README.md", "space.md.j2")):
        write_text(folder / name, environment.get_template(template).render(names))
    return sorted(path.name for path in folder.iterdir())
