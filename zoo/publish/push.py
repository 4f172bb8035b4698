"""Publish a run: a staged copy with the license written in, proven, measured and described; one commit on the Hub."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.files import write_json, write_text
from zoo.hub.checks import guarded
from zoo.hub.pull import CONFIG, ONNX, WEIGHTS, parse_id, quiet_unless_watched, reason, status_of, unreachable
from zoo.modelinfo import ModelInfo
from zoo.publish.card import FIGURES, License, card_of_run, facts_in, figures_in, report_in
from zoo.runs import find_run, is_being_written

CENTRES = "head.safetensors"
"""The class centres: vectors that stand for the people of the training set."""
OURS = ("model*.onnx", "model*.onnx.data", "report.json", "report.html", CENTRES, *FIGURES)
"""What a push replaces as a whole: such a file on the Hub that the run no longer has goes away."""
LEAST_COSINE = 0.999
"""A float16 or int8 variant may differ from torch by more than float32's noise, but not by another model."""


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    repo: str
    commit: str
    """The newest commit, 40 hex digits."""
    changed: bool
    """False where the Hub had every file already: no commit was made."""
    url: str
    """Where to look: the commit, or the pull request."""


@dataclass(frozen=True)
class Plan:
    """What a push would publish."""

    repo: str
    files: dict[str, int]
    """The bytes of each file, by name."""


def publish(
    run: str | Path | None,
    repo: str,
    license: License,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    allow_unmeasured: bool = False,
    include_class_centres: bool = False,
    dry_run: bool = False,
) -> tuple[Plan, Pushed | None]:
    """Publishes a run as owner/name on the Hub, in one commit; None in place of the commit for a `dry_run`.

    `run` is a run's folder or name (None: the newest). `include_class_centres` adds head.safetensors, which stands for
    the people of the training set: biometric data. InputError where the run is being written, has no proven export or
    no measurement (`allow_unmeasured` lets that pass), or where its weights and its ONNX file are not one model.
    """
    folder = find_run(run)
    if is_being_written(folder):
        raise InputError(f"the run {folder} is being written at this moment; wait until it ends or stop it")
    with tempfile.TemporaryDirectory(prefix="zoo-push-") as temporary:
        staged, centres = Path(temporary) / "staged", None
        staged.mkdir()
        if include_class_centres:
            from zoo.train.centre_file import write_centres

            centres = Path(temporary) / CENTRES
            write_centres(folder, centres)
        names = stage(folder, staged, repo, license, allow_unmeasured=allow_unmeasured, centres=centres)
        require_same_model(staged)
        plan = Plan(repo, {name: (staged / name).stat().st_size for name in names})
        if dry_run:
            return plan, None
        message = f"Publish {folder.resolve().name}"
        return plan, push(staged, repo, private=private, revision=revision, create_pr=create_pr, message=message)


def require_same_model(folder: Path) -> None:
    """InputError unless model.safetensors and model.onnx are one model: a run may have gone on since its export."""
    from zoo.backbones import load_timm
    from zoo.backbones.torch_embedder import TorchEmbedder
    from zoo.export.parity import ParityError, crops_for_parity, differences
    from zoo.inference.session import OnnxEmbedder

    embedder = OnnxEmbedder(folder / ONNX, device="cpu")
    crops = crops_for_parity(embedder.input.size, 5)
    ours = TorchEmbedder(load_timm(folder), embedder.input)(crops)
    try:
        cosine = differences(ours, embedder(crops)).cosine
    except ParityError as error:
        raise InputError(
            f"model.safetensors and model.onnx are not one model ({error}); export the run again"
        ) from None
    if cosine < 0.9999:
        raise InputError(
            f"expected model.onnx to be the model of model.safetensors, found a cosine of {cosine:.4f} between their"
            " embeddings; export the run again with `zoo export --onnx --force` and measure it again"
        )


def stage(
    run: Path,
    folder: Path,
    repo: str,
    license: License,
    *,
    allow_unmeasured: bool = False,
    centres: Path | None = None,
) -> list[str]:
    """Writes what is to be published of `run` into the empty `folder`; returns the names.

    The run is left as it is: config.json and the ONNX files are copies with the license in their facts, and report.html
    and the figures are drawn anew from report.json, so that no face is on them. `centres` is a file of class centres,
    biometric data, which goes only where it is named. InputError where the run has no proven
    export or no measurement of it (`allow_unmeasured` lets that pass, and the card says so).
    """
    info = facts_in(run)
    require_parity(run / ONNX, info)
    report = report_in(run)
    if report is None and not allow_unmeasured:
        raise InputError(
            f"expected a measurement of the model in {run}, found no report.json; make one with `zoo evaluate {run} "
            f"--report {run}`, or publish without with --allow-unmeasured"
        )
    write_json(folder / CONFIG, licensed_config(run, license))
    shutil.copyfile(existing(run / WEIGHTS), folder / WEIGHTS)
    for model in sorted(run.glob("model*.onnx")):
        stage_onnx(model, folder, license)
    if report is not None:
        from zoo.evaluate.report.write import save_all

        with tempfile.TemporaryDirectory() as drawn:
            save_all(drawn, [report])
            for figure in figures_in(Path(drawn)):
                shutil.copyfile(Path(drawn) / figure, folder / figure)
        for name in ("report.json", "report.html"):
            report.save(folder / name)
    if centres is not None:
        shutil.copyfile(existing(centres), folder / CENTRES)
    write_text(folder / "README.md", card_of_run(run, repo, license, centres is not None, figures_in(folder)))
    return sorted(path.name for path in folder.iterdir())


def existing(file: Path) -> Path:
    """`file`; InputError where it is not there."""
    if not file.is_file():
        raise InputError(f"expected {file.name} in {file.parent}, found none; choose a run that has it")
    return file


def require_parity(model: Path, info: ModelInfo) -> None:
    """InputError unless the facts hold a passed comparison with torch."""
    cosines = [record.get("cosine", 0.0) for record in info.parity.values() if isinstance(record, dict)]
    if not cosines or min(cosines) < LEAST_COSINE:
        raise InputError(
            f"expected a proof in {model} that it computes the same as the trained model, found "
            f"{'a failed one' if cosines else 'none'}; export it with `zoo export {model.parent} --onnx --force`"
        )


def licensed_config(run: Path, license: License) -> dict[str, Any]:
    """The run's config.json with the license where timm and zoo look for it."""
    content: dict[str, Any] = json.loads(existing(run / CONFIG).read_text(encoding="utf-8"))
    content["pretrained_cfg"] = {**(content.get("pretrained_cfg") or {}), "license": license.identifier}
    content["zoo"] = {**(content.get("zoo") or {}), "license": license.name or license.identifier}
    return content


def stage_onnx(model: Path, folder: Path, license: License) -> None:
    """A copy of an ONNX file, and of the weights beside it, whose facts name the license."""
    from zoo.hub.checks import require_weights_beside
    from zoo.inference.metadata import read_model_info, write_model_info

    info = read_model_info(model)
    if info is None:
        raise InputError(f"expected the facts of the model in {model}, found none; export it with `zoo export`")
    require_parity(model, info)
    for name in require_weights_beside(model):
        shutil.copyfile(existing(model.parent / name), folder / name)
    shutil.copyfile(model, folder / model.name)
    write_model_info(folder / model.name, replace(info, license=license.name or license.identifier))


def push(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    message: str = "Publish the model",
) -> Pushed:
    """Uploads the staged `folder` as one commit; a repository or branch that is not there is made.

    Files that the Hub has already make no commit. The token is that of `hf auth login` or HF_TOKEN. InputError for a
    refused token, a wrong name, a server that fails or cannot be reached.
    """
    if parse_id(repo).repo != repo:
        raise InputError(
            f"expected the model's name on the Hub as owner/name, found {repo!r}; use --revision for a branch"
        )
    with refusals_told(repo), guarded(), quiet_unless_watched():
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        before = api.model_info(repo, revision=revision, timeout=20).sha
        made = api.upload_folder(
            repo_id=repo,
            folder_path=str(folder),
            commit_message=message,
            revision=revision,
            create_pr=create_pr,
            delete_patterns=list(OURS),
        )
    return Pushed(repo, made.oid, made.oid != before, made.pr_url or made.commit_url)


@contextmanager
def refusals_told(repo: str) -> Iterator[None]:
    """Turns what a server refuses, or does not answer, into one sentence."""
    from huggingface_hub.errors import HfHubHTTPError

    causes: tuple[type[Exception], ...] = (HfHubHTTPError, RuntimeError, *unreachable())
    try:
        yield
    except causes as error:
        # the client's upload threads wrap what happened to them
        cause = error.__cause__ if type(error) is RuntimeError else error
        if isinstance(cause, InputError):
            raise cause from None
        if isinstance(cause, HfHubHTTPError):
            hint = ""
            if cause.response.status_code in (401, 403):
                hint = "; log in with `hf auth login` or set HF_TOKEN to a token that may write there"
            raise InputError(f"could not publish {repo}: {status_of(cause)}{hint}; no commit was made") from None
        if cause is not None and isinstance(cause, unreachable()):
            raise InputError(f"could not publish {repo}: {reason(cause)}; no commit was made, try again") from None
        raise
