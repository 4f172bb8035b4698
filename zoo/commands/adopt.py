"""Take in a model that others trained: a checkpoint, a name of `zoo list published`, or a file on the Hub.

zoo adopt adaface_ir50_ms1mv2.ckpt --as adaface -o models/adaface-r50
zoo adopt cvlface-adaface-ir101-webface12m -o models/cvlface-r101
zoo adopt ByteDance/LVFace:LVFace-T_Glint360K.pt -o models/lvface-t

zoo adopt adaface_ir_18.onnx --as adaface -o models/adaface-r18    an ONNX file: its embedding, from RGB

The folder is taken like a run: zoo export, evaluate, verify, train --init, push, card. That of an ONNX file has no
weights to export or to train on.
"""

from __future__ import annotations

import argparse
import json

from zoo.errors import Exit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `zoo adopt`."""
    parser.add_argument("source", metavar="SOURCE", help="a file, a name of `zoo list published`, or owner/name:FILE")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="the new folder")
    parser.add_argument(
        "--as",
        dest="convention",
        metavar="NAME",
        help="whose checkpoint it is, where neither its hash nor its name tells: arcface_torch, adaface, cvlface, …",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for a script")


def run(args: argparse.Namespace) -> int:
    """Takes the model in; 0 when the folder is whole."""
    from zoo.published.adopt import adopt

    adopted = adopt(args.source, args.output, args.convention)
    info, origin = adopted.info, adopted.info.origin
    assert origin is not None
    if args.json:
        print(
            json.dumps(
                {"folder": str(adopted.folder), "known": adopted.known is not None, **json.loads(info.to_json())}
            )
        )
        return Exit.OK
    onnx = (adopted.folder / "model.onnx").is_file()
    print(f"{adopted.folder}: {info.backbone or 'ONNX'}, {info.embedding_dim} dimensions")
    print(f"  input {info.input.channel_order}, {info.input.scaling}, as {origin.convention}")
    if adopted.known is None:
        print("  not in the catalogue: who trained it, and under which license, is for you to find out")
    else:
        print(f"  trained by {origin.authors}; license of the weights: {origin.license} ({origin.license_link})")
        print(f"  training data {info.training_set}: {origin.data_license}; consent: {origin.consent}")
    if origin.leftovers:
        print(f"  left, as no part of the embedding: {', '.join(origin.leftovers[:5])}")
    print(
        f"next: zoo evaluate {adopted.folder} --data PAIRS.bin" if onnx else f"next: zoo export {adopted.folder} --onnx"
    )
    return Exit.OK
