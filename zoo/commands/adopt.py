"""Take in a model that others trained: a checkpoint, a name of `zoo list published`, or a file on the Hub.

zoo adopt adaface_ir50_ms1mv2.ckpt --as adaface -o models/adaface-r50
zoo adopt cvlface-adaface-ir101-webface12m -o models/cvlface-r101
zoo adopt ByteDance/LVFace:LVFace-T_Glint360K.pt -o models/lvface-t

zoo adopt adaface_ir_18.onnx --as adaface -o models/adaface-r18    an ONNX file: its embedding, from RGB

The folder is taken like a run: zoo export, evaluate, verify, train --init, push, card. That of an ONNX file has no
weights to export or to train on.
"""

import argparse
import json

from zoo.commands.options import Parser, answer


def add_arguments(parser: Parser) -> None:
    parser.add("source SOURCE", "a file, a name of `zoo list published`, or owner/name:FILE")
    parser.add("-o --output FOLDER", "the new folder", required=True)
    whose = "whose checkpoint it is, where neither its hash nor its name tells: arcface_torch, adaface, cvlface, …"
    parser.add("--as NAME", whose, dest="convention")
    parser.add_threads_argument()
    parser.add_json()


def run(args: argparse.Namespace) -> int:
    from zoo.published.adopt import adopt

    adopted = adopt(args.source, args.output, args.convention)
    info, origin = adopted.info, adopted.info.origin
    assert origin is not None
    onnx = (adopted.folder / "model.onnx").is_file()
    record = {"folder": str(adopted.folder), "known": adopted.known is not None, **json.loads(info.to_json())}
    lines = [f"{adopted.folder}: {info.backbone or 'ONNX'}, {info.embedding_dim} dimensions"]
    lines.append(f"  input {info.input.channel_order}, {info.input.scaling}, as {origin.convention}")
    if adopted.known is None:
        lines.append("  not in the catalogue: find out who trained it, and under which license")
    else:
        lines.append(f"  trained by {origin.authors}; license of the weights: {origin.license} ({origin.license_link})")
        lines.append(f"  training data {info.training_set}: {origin.data_license}; consent: {origin.consent}")
    if origin.leftovers:
        lines.append(f"  left, as no part of the embedding: {', '.join(origin.leftovers[:5])}")
    following = f"zoo evaluate {adopted.folder} --data PAIRS.bin" if onnx else f"zoo export {adopted.folder} --onnx"
    return answer(args, record, [*lines, f"next: {following}"])
