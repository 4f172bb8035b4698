"""Publish a run: a staged copy with the license in it, proven, measured and described; one commit, or a Space."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.errors import InputError, explained
from zoo.evaluate.report.page import templates
from zoo.faces.detect import load_detector
from zoo.files import write_bytes, write_json, write_text
from zoo.hub.checks import content_hash, guarded, require_weights_beside
from zoo.hub.pull import CONFIG, ONNX, WEIGHTS, parse_id, read, reason, unreachable
from zoo.publish.card import WEB_FILE, License, card_of_run, facts_in, figures_in, model_folder, report_in, run_of
from zoo.recognition import FaceVerifier
from zoo.resolve import onnx_file
from zoo.runs import is_being_written

CENTRES = "head.safetensors"  #: The class centres: vectors that stand for the people of the training set
GIT = 40  #: The hex digits of the hash that git gives to a file
LEAST_COSINE = 0.999  #: A float16 or int8 file may differ from torch by more than noise, but not by another model


@dataclass(frozen=True)
class Pushed:
    repo: str
    commit: str  #: The newest commit, 40 hex digits
    changed: bool  #: False where the Hub had every file already: no commit was made
    url: str  #: Where to look: the commit, or the pull request
    notes: tuple[str, ...] = ()  #: What was left as it is on the Hub, and why


def publish(
    run: str | Path | None,
    repo: str,
    license: License,
    *,
    allow_unmeasured: bool = False,
    include_class_centres: bool = False,
    dry_run: bool = False,
    **upload: Any,
) -> tuple[dict[str, int], Pushed | None]:
    """Publishes a model as owner/name on the Hub, in one commit: the bytes of each file, and the commit.

    For a `dry_run` the commit is None. `run` is a run, its best/ or an adopted model, by folder or name (None: newest
    run). `include_class_centres` adds head.safetensors, which stands for the people of the training set: biometric
    data. `upload` are options of `push` (private, revision, create_pr, replace_card). InputError where the run is being
    written, has no proven export or no measurement (`allow_unmeasured` lets that pass), or where its weights and its
    ONNX file are not one model.
    """
    require_plain_name(repo)
    folder = model_folder(run)
    if is_being_written(run_of(folder)):
        raise InputError(f"the run {folder} is being written at this moment; wait until it ends or stop it")
    with tempfile.TemporaryDirectory(prefix="zoo-push-") as temporary:
        staged, centres = Path(temporary) / "staged", None
        staged.mkdir()
        if include_class_centres:
            from zoo.train.checkpoint import write_centres

            centres = Path(temporary) / CENTRES
            write_centres(run_of(folder), centres)
        names = stage(folder, staged, repo, license, allow_unmeasured=allow_unmeasured, centres=centres)
        require_same_model(staged)
        sizes = {name: (staged / name).stat().st_size for name in names}
        return sizes, None if dry_run else push(staged, repo, message=f"Publish {folder.resolve().name}", **upload)


def require_plain_name(repo: str) -> None:
    if parse_id(repo).repo != repo:
        raise InputError(f"expected the name on the Hub as owner/name, found {repo!r}; use --revision for a branch")


def require_same_model(folder: Path) -> None:
    """InputError unless model.onnx and a model.safetensors are one model: a run may have gone on since its export."""
    from zoo.backbones import load_timm
    from zoo.backbones.timm_folder import TorchEmbedder
    from zoo.export.parity import ParityError, crops_for_parity, differences
    from zoo.inference.session import OnnxEmbedder

    if not (folder / WEIGHTS).is_file():
        return
    embedder = OnnxEmbedder(folder / ONNX, device="cpu")
    crops = crops_for_parity(embedder.input.size, 5)
    with explained("model.safetensors and model.onnx are not one model", ParityError, advice="export the run again"):
        cosine = differences(TorchEmbedder(load_timm(folder), embedder.input)(crops), embedder(crops)).cosine
    if cosine < 0.9999:
        advice = "export the run again with `zoo export --onnx --force` and measure it again"
        found = f"found a cosine of {cosine:.4f} between their embeddings"
        raise InputError(f"expected model.onnx to be the model of model.safetensors, {found}; {advice}")


def stage(
    run: Path, folder: Path, repo: str, license: License, *, allow_unmeasured: bool = False, centres: Path | None = None
) -> list[str]:
    """Writes what is to be published of `run` into the empty `folder`; returns the names.

    The run is left as it is: config.json and the ONNX files are copies with the license in their facts, and report.html
    and the figures are drawn anew from report.json, so that no face is on them. `centres` is a file of class centres,
    biometric data, which goes only where it is named. InputError where the run has no proven export or no measurement
    of it (`allow_unmeasured` lets that pass, and the card says so).
    """
    proven = facts_in(run / ONNX).parity  # none: an adopted ONNX file; whatever is missing is said first
    for model in sorted(run.glob("model*.onnx")):
        stage_onnx(model, folder, license)
    report = report_in(run)
    if report is None and not allow_unmeasured:
        advice = f"make one with `zoo evaluate {run} --report {run}`, or publish without with --allow-unmeasured"
        raise InputError(f"expected a measurement of the model in {run}, found no report.json; {advice}")
    if proven:
        shutil.copyfile(existing(run / WEIGHTS), folder / WEIGHTS)
    if report is not None:
        from zoo.evaluate.report.page import save_all

        with tempfile.TemporaryDirectory() as drawn:
            save_all(drawn, [report])
            for name in ("report.json", "report.html", *figures_in(Path(drawn))):
                shutil.copyfile(Path(drawn) / name, folder / name)
    if centres is not None:
        shutil.copyfile(existing(centres), folder / CENTRES)
    if not any(folder.glob("*.onnx.data")):
        (folder / WEB_FILE).parent.mkdir()
        os.link(folder / ONNX, folder / WEB_FILE)  # the same content again, which the Hub stores and receives once
    write_text(folder / "README.md", card_of_run(run, repo, license, centres is not None, figures_in(folder)))
    config: dict[str, Any] = json.loads(existing(run / CONFIG).read_text(encoding="utf-8")) if proven else {}
    config["pretrained_cfg"] = {**(config.get("pretrained_cfg") or {}), "license": license.identifier}
    config["zoo"] = {**(config.get("zoo") or {}), "license": license.name or license.identifier}
    write_config(folder, config)
    return staged_files(folder)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes config.json last: its `zoo` block lists every file of the push, and the hash of the card."""
    names = [*staged_files(folder), CONFIG]
    listed = {name: content_hash(folder / name, GIT) if name == "README.md" else "" for name in names}
    write_json(folder / CONFIG, {**config, "zoo": {**config.get("zoo", {}), "published": listed}})


def staged_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def existing(file: Path) -> Path:
    if not file.is_file():
        raise InputError(f"expected {file.name} in {file.parent}, found none; choose a run that has it")
    return file


def stage_onnx(model: Path, folder: Path, license: License, name: str = "") -> None:
    """A copy of an ONNX file called `name`, and of the weights beside it, whose facts name the license.

    InputError unless its facts hold a passed comparison with torch, or it was adopted and has no weights beside it.
    """
    from zoo.inference.metadata import write_model_info

    info = facts_in(model)
    cosines = [record["cosine"] for record in info.parity.values()]
    adopted = info.origin is not None and not (model.parent / WEIGHTS).is_file()
    if not adopted and min(cosines, default=0.0) < LEAST_COSINE:
        advice = f"export it with `zoo export {model.parent} --onnx --force`"
        found = f"found {'a failed one' if cosines else 'none'}; {advice}"
        raise InputError(f"expected a proof in {model} that it computes the same as the trained model, {found}")
    for weights in require_weights_beside(model):
        shutil.copyfile(existing(model.parent / weights), folder / weights)
    copy = folder / (name or model.name)
    shutil.copyfile(model, copy)
    write_model_info(copy, replace(info, license=license.name or license.identifier))


def push(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    message: str = "Publish the model",
    replace_card: bool = False,
) -> Pushed:
    """Uploads the staged `folder` as one commit; a repository or branch that is not there is made.

    Of what lies there, the commit deletes only files that the last push wrote and this one does not have, and it leaves
    a README.md that was edited since, unless `replace_card`. Files that the Hub has already make no commit. The token
    is that of `hf auth login` or HF_TOKEN. InputError for a refused token, name or card, for `private` where the
    repository is public, and for a server that fails or cannot be reached.
    """
    require_plain_name(repo)
    with refusals_told(repo), guarded():
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download

        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.model_info(repo, timeout=20).private:
            found = f"found {repo}, which is public"
            advice = "make it private in its settings on the Hub first, or leave --private out"
            raise InputError(f"expected a new or private repository for --private, {found}; {advice}")
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        before = api.model_info(repo, revision=revision, timeout=20)
        there, names = {sibling.rfilename for sibling in before.siblings or []}, set(staged_files(folder))
        card, commit, notes = "README.md", str(before.sha), list[str]()
        kept = (name for name in (CONFIG, card) if name in there)
        online = {name: Path(hf_hub_download(repo, name, revision=commit)) for name in kept}
        block = read(online[CONFIG]).get("zoo") if CONFIG in online else None
        last = block.get("published") if isinstance(block, dict) else None
        last = last if isinstance(last, dict) else {}
        edited = card in names and card in online and content_hash(online[card], GIT) != last.get(card)
        if edited and not replace_card:
            names.remove(card)
            notes.append(f"{card} of {repo} was edited on the Hub: kept as it is; --replace-card replaces it")
        gone = sorted(name for name in there - names if name in last and name != card)
        adds = {name: CommitOperationAdd(name, str(folder / name)) for name in sorted(names)}
        place: dict[str, Any] = {"revision": revision, "create_pr": create_pr}
        if WEB_FILE in adds:  # what has been received once is not asked for again
            api.preupload_lfs_files(repo, [adds[ONNX]], free_memory=False, **place)
        operations: list[Any] = [*adds.values(), *(CommitOperationDelete(name) for name in gone)]
        made = api.create_commit(repo, operations, commit_message=message, **place)
    return Pushed(repo, made.oid, made.oid != before.sha, made.pr_url or made.commit_url, tuple(notes))


@contextmanager
def refusals_told(repo: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    causes: tuple[type[Exception], ...] = (HfHubHTTPError, RuntimeError, ValueError, *unreachable())
    try:
        yield
    except causes as error:
        # the client's upload threads wrap what happened to them
        cause = error.__cause__ if type(error) is RuntimeError else error
        if isinstance(cause, InputError):
            raise cause from None
        hint = ""
        if isinstance(cause, HFValidationError) or "metadata in README.md" in str(cause):
            why = f"the Hub refuses it ({' '.join(str(cause).split())[:300]})"
        elif isinstance(cause, HfHubHTTPError):
            login = "; log in with `hf auth login` or set HF_TOKEN to a token that may write there"
            why = reason(cause) + (login if cause.response.status_code in (401, 403) else "")
        elif cause is not None and isinstance(cause, unreachable()):
            why, hint = reason(cause), ", try again"
        else:
            raise
        raise InputError(f"could not publish {repo}: {why}; no commit was made{hint}") from None


REQUIREMENTS: tuple[str, ...] = ("gradio", "huggingface-hub>=1.0", "numpy>=2.0", "onnx>=1.19", "onnxruntime>=1.23")
REQUIREMENTS += ("opencv-python-headless>=4.10", "pillow>=11", "pyyaml>=6.0", "rich>=13.7", "simplejpeg>=1.8")
"""What the photo commands need: no PyTorch."""


def publish_space(
    model: str | Path | None,
    repo: str,
    license: License,
    wheel: str | Path,
    *,
    private: bool = False,
    dry_run: bool = False,
    **demo: Any,
) -> tuple[dict[str, int], Pushed | None]:
    """Publishes a demo of MODEL (see `zoo.resolve`) as the Space owner/name; returns as `publish`.

    The Space holds the ONNX file with the license in its facts, the face detector, and the package's `wheel`, which is
    on no index. `demo` are `detector` and `threshold` of FaceVerifier. InputError for a model without a proof, a file
    that is no wheel of zoo, and what the Hub refuses.
    """
    require_plain_name(repo)
    with tempfile.TemporaryDirectory(prefix="zoo-space-") as temporary:
        names = stage_space(model, Path(temporary), repo, license, wheel, **demo)
        sizes = {name: (Path(temporary) / name).stat().st_size for name in names}
        if dry_run:
            return sizes, None
        with refusals_told(repo), guarded():
            from huggingface_hub import HfApi

            api = HfApi()
            api.create_repo(repo, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
            before = api.space_info(repo, timeout=20).sha
            place: dict[str, Any] = {"repo_id": repo, "repo_type": "space", "folder_path": temporary}
            made = api.upload_folder(**place, commit_message="Publish the demo", delete_patterns="*.whl")
        return sizes, Pushed(repo, made.oid, made.oid != before, made.commit_url)


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
    stage_onnx(source, folder, license, ONNX)
    write_bytes(folder / "detector.onnx", yunet.content)
    shutil.copyfile(wheel, folder / wheel.name)
    write_text(folder / "requirements.txt", "\n".join(REQUIREMENTS) + "\n")
    names: dict[str, Any] = {"title": repo.split("/")[1], "license": license, "threshold": threshold}
    environment = templates("zoo.publish", autoescape=False, keep_trailing_newline=True)
    for name, template in (("app.py", "space_app.py.j2"), ("README.md", "space.md.j2")):
        write_text(folder / name, environment.get_template(template).render(names))
    return sorted(path.name for path in folder.iterdir())
