"""Fetch a model from the Hugging Face Hub into the cache: one commit, checked, no pickle ever opened.

zoo pull owner/name
zoo pull owner/name@v1.0 --json
zoo pull owner/name:FILE             one file of any repository
zoo pull sface                       a model of `zoo list published`, from its authors' own repository
zoo pull owner/name --token          a private or gated one, with the token of `hf auth login` or HF_TOKEN
"""

import argparse

from zoo.commands.options import Parser, answer
from zoo.errors import InputError


def add_arguments(parser: Parser) -> None:
    parser.add("model MODEL", "owner/name[@revision][:FILE], or a name of `zoo list published`")
    parser.add("--onnx", "model.onnx alone: all that evaluate and verify need")
    parser.add("--token", "send your stored token; without it none is sent")
    parser.add("--max-bytes N", "fetch no more than this in all (default: 8 GiB)", type=int)
    parser.add_json()


def run(args: argparse.Namespace) -> int:
    from zoo.hub.checks import MOST_BYTES
    from zoo.hub.pull import pull
    from zoo.resolve import ONNX, check_pulled

    if ":" in args.model.removeprefix("hf-hub:") or "/" not in args.model:
        return run_file(args)
    most = MOST_BYTES if args.max_bytes is None else args.max_bytes
    if most < 1:
        raise InputError(f"expected --max-bytes to be at least 1, found {most}")
    pulled = pull(args.model, (ONNX,) if args.onnx else None, token=args.token, most_bytes=most)
    parts = check_pulled(pulled)
    name = f"{pulled.repo}@{pulled.commit}"
    record = {"model": name, "commit": pulled.commit, "folder": str(pulled.folder), "files": list(pulled.files)}
    lines = [name, f"  {', '.join(pulled.files)}", f"  in {pulled.folder}", *(f"  {part}" for part in parts)]
    return answer(args, record, lines)


def run_file(args: argparse.Namespace) -> int:
    from zoo.published.catalogue import find

    found = find(args.model)
    name = found.known.name if found.known is not None else found.name
    record = {"model": name, "file": str(found.path), "sha256": found.sha256}
    unopened = f"  not opened: `zoo adopt {args.model} -o FOLDER` makes a model of it"
    return answer(args, record, [found.name, f"  sha256 {found.sha256}", f"  in {found.path}", unopened])
