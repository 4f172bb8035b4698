"""Publish a model on the Hugging Face Hub: weights, ONNX, report and card, as one commit.

RUN is a run, by folder or name, its best/, or the folder of an adopted model.

zoo push runs/first owner/name --license apache-2.0 --dry-run
zoo push runs/first owner/name --license cc-by-nc-4.0 --private
zoo push runs/first owner/name --license other --license-name "research only" --license-link https://…
zoo push runs/first owner/demo --license apache-2.0 --space timm_face_zoo-0.1.0-py3-none-any.whl

Log in first: `hf auth login`, or set HF_TOKEN.
"""

import argparse

from zoo.commands.options import Parser, answer, print_notes
from zoo.errors import InputError


def add_arguments(parser: Parser) -> None:
    parser.add("run RUN", "a run, its best/, or an adopted model: a folder or a run's name")
    parser.add("repo OWNER/NAME", "the model's name on the Hub")
    parser.add_license_arguments()
    parser.add("--private", "make a new repository private")
    parser.add("--revision BRANCH", "push to this branch (default: main)")
    parser.add("--create-pr", "open a pull request instead")
    parser.add("--replace-card", "replace a README.md that was edited on the Hub")
    parser.add("--dry-run", "list what would be published, and publish nothing")
    parser.add("--allow-unmeasured", "publish without a report; the card says that there is none")
    centres = "publish head.safetensors, from the newest checkpoint: biometric data, vectors that stand for"
    parser.add("--include-biometric-class-centres", f"{centres} the people of the training set")
    parser.add("--space WHEEL", "publish a Gradio Space that compares two photos instead, with this wheel of zoo")
    parser.add("--detector PATH", "with --space: YuNet's ONNX file (default: the pinned one)")
    parser.add("--threshold COSINE", "with --space: the demo's threshold", type=float)
    parser.add_json()


def run(args: argparse.Namespace) -> int:
    from zoo.publish import License, publish

    if not args.license:
        advice = "name that of the weights, such as apache-2.0, or other with --license-name and --license-link"
        raise InputError(f"expected --license, found none: without a license nobody may use the model; {advice}")
    license = License(args.license, args.license_name, args.license_link)
    common = {"private": args.private, "dry_run": args.dry_run}
    if args.space:
        from zoo.publish.push import publish_space

        demo = {"detector": args.detector, "threshold": args.threshold}
        sizes, pushed = publish_space(args.run, args.repo, license, args.space, **demo, **common)
    else:
        place = {"revision": args.revision, "create_pr": args.create_pr, "replace_card": args.replace_card}
        centres = args.include_biometric_class_centres
        content = {"allow_unmeasured": args.allow_unmeasured, "include_class_centres": centres}
        sizes, pushed = publish(args.run, args.repo, license, **common, **place, **content)
    if pushed is None:
        files = [f"  {size:>12,} bytes  {name}" for name, size in sizes.items()]
        planned = {"repo": args.repo, "files": sizes, "dry_run": True}
        return answer(args, planned, [f"would publish {args.repo}:", *files])
    print_notes(pushed.notes)
    told = f"{pushed.repo} holds all of it already: no commit was made ({pushed.commit})"
    if pushed.changed:
        told = f"published {pushed.repo}@{pushed.commit}\n  {', '.join(sizes)}\n  {pushed.url}"
    record = {"repo": pushed.repo, "commit": pushed.commit, "changed": pushed.changed, "url": pushed.url}
    return answer(args, record, [told])
