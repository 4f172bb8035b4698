"""Publish a run on the Hugging Face Hub: weights, ONNX, report and card, as one commit. RUN: a run folder or name.

zoo push runs/first owner/name --license apache-2.0 --dry-run
zoo push runs/first owner/name --license cc-by-nc-4.0 --private
zoo push runs/first owner/name --license other --license-name "research only" --license-link https://…

Log in first: `hf auth login`, or set HF_TOKEN.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from zoo.commands.options import add_license_arguments
from zoo.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `zoo push`."""
    parser.add_argument("run", metavar="RUN", help="run folder or name")
    parser.add_argument("repo", metavar="OWNER/NAME", help="the model's name on the Hub")
    add_license_arguments(parser)
    parser.add_argument("--private", action="store_true", help="make the repository private, if it is a new one")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--dry-run", action="store_true", help="list what would be published, and publish nothing")
    parser.add_argument(
        "--allow-unmeasured", action="store_true", help="publish without a report; the card says that there is none"
    )
    parser.add_argument(
        "--include-biometric-class-centres",
        action="store_true",
        help="publish head.safetensors, from the newest checkpoint: vectors that stand for the people of the training"
        " set, biometric data",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for a script")


def run(args: argparse.Namespace) -> int:
    """Publishes; 0 when the Hub holds every file."""
    from zoo.publish.card import License
    from zoo.publish.push import CENTRES, push, sizes, stage
    from zoo.runs import find_run, is_being_written

    folder = find_run(args.run)
    if not args.license:
        raise InputError(
            "expected --license, found none: without a license nobody may use the model; name that of the weights,"
            " such as apache-2.0, or other with --license-name and --license-link"
        )
    license = License(args.license, args.license_name, args.license_link)
    if is_being_written(folder):
        raise InputError(f"the run {folder} is being written at this moment; wait until it ends or stop it")
    with tempfile.TemporaryDirectory(prefix="zoo-push-") as temporary:
        staged, centres = Path(temporary) / "staged", None
        staged.mkdir()
        if args.include_biometric_class_centres:
            from zoo.train.centre_file import write_centres

            centres = Path(temporary) / CENTRES
            write_centres(folder, centres)
        names = stage(
            folder,
            staged,
            args.repo,
            license,
            allow_unmeasured=args.allow_unmeasured,
            centres=centres,
        )
        require_same_model(staged)
        listed = sizes(staged, names)
        if args.dry_run:
            if args.json:
                print(json.dumps({"repo": args.repo, "files": dict(listed), "dry_run": True}, indent=2))
            else:
                print(f"would publish {args.repo}:")
                print("\n".join(f"  {size:>12,} bytes  {name}" for name, size in listed))
            return 0
        pushed = push(
            staged,
            args.repo,
            private=args.private,
            revision=args.revision,
            create_pr=args.create_pr,
            message=f"Publish {folder.resolve().name}",
        )
    if args.json:
        record = {"repo": pushed.repo, "commit": pushed.commit, "changed": pushed.changed, "url": pushed.url}
        print(json.dumps(record, indent=2))
    elif pushed.changed:
        print(f"published {pushed.repo}@{pushed.commit}\n  {', '.join(names)}\n  {pushed.url}")
    else:
        print(f"{pushed.repo} holds all of it already: no commit was made ({pushed.commit})")
    return 0


def require_same_model(folder: Path) -> None:
    """InputError unless model.safetensors and model.onnx are one model: a run may have gone on since its export."""
    from zoo.backbones import load_timm
    from zoo.backbones.torch_embedder import TorchEmbedder
    from zoo.export.parity import ParityError, crops_for_parity, differences
    from zoo.inference.session import OnnxEmbedder

    embedder = OnnxEmbedder(folder / "model.onnx", device="cpu")
    crops = crops_for_parity(embedder.input.size, 5)
    ours = TorchEmbedder(load_timm(folder), embedder.input)(crops)
    try:
        cosine = differences(ours, embedder(crops))["cosine"]
    except ParityError as error:
        raise InputError(
            f"model.safetensors and model.onnx are not one model ({error}); export the run again"
        ) from None
    if cosine < 0.9999:
        raise InputError(
            f"expected model.onnx to be the model of model.safetensors, found a cosine of {cosine:.4f} between their"
            " embeddings; export the run again with `zoo export --onnx --force` and measure it again"
        )
