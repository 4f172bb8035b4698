"""Fetch a model from the Hugging Face Hub into the cache: one commit, checked, never a pickle.

zoo pull owner/name
zoo pull owner/name@v1.0 --json
zoo pull owner/name --token          a private or gated one, with the token of `hf auth login` or HF_TOKEN
"""

from __future__ import annotations

import argparse
import json

from zoo.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `zoo pull`."""
    parser.add_argument("model", metavar="MODEL", help="owner/name, owner/name@revision")
    parser.add_argument("--onnx", action="store_true", help="model.onnx alone: all that evaluate and verify need")
    parser.add_argument("--token", action="store_true", help="send your stored token; without it none is sent")
    parser.add_argument("--max-bytes", type=int, metavar="N", help="fetch no more than this in all (default: 8 GiB)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for a script")


def run(args: argparse.Namespace) -> int:
    """Fetches; 0 when every file is there and checked."""
    from zoo.hub.checks import MOST_BYTES
    from zoo.hub.pull import CONFIG, ONNX, WEIGHTS, pull

    most = MOST_BYTES if args.max_bytes is None else args.max_bytes
    if most < 1:
        raise InputError(f"expected --max-bytes to be at least 1, found {most}")
    pulled = pull(args.model, (ONNX,) if args.onnx else None, token=args.token, most_bytes=most)
    parts = []
    if {CONFIG, WEIGHTS} <= set(pulled.files):
        from zoo.backbones import load_timm

        model = load_timm(pulled.folder)  # refuses what it does not know and what does not fit
        parts.append(f"{model.backbone_name}, {model.embedding_dim} dimensions: the weights fit")
    if ONNX in pulled.files:
        from zoo.inference.session import OnnxEmbedder

        embedder = OnnxEmbedder(pulled.folder / ONNX, device="cpu")
        parts.append(f"{ONNX} runs, {embedder.embedding_dim} dimensions")
    name = f"{pulled.repo}@{pulled.commit}"
    if args.json:
        record = {"model": name, "commit": pulled.commit, "folder": str(pulled.folder), "files": list(pulled.files)}
        print(json.dumps(record, indent=2))
        return 0
    print(f"{name}\n  {', '.join(pulled.files)}\n  in {pulled.folder}")
    print("\n".join(f"  {part}" for part in parts))
    return 0
