"""Turn pictures into a table of embeddings: path, box, landmarks, quality and unit-length embedding of each face.

An interrupted run is resumed: finished work is kept beside the output, in OUT.partial.

zoo embed photos/ -o photos.npz --model model.onnx
zoo embed a.jpg b.jpg -o faces.parquet --face all
zoo embed 'shards/{000..999}.tar' -o part-7.parquet --shard 7/100
"""

import argparse

from zoo.commands.options import Parser, bar, print_notes, verifier_of


def add_arguments(parser: Parser) -> None:
    parser.add("pictures IMAGES", "pictures, folders of them, .tar shards, .parquet or hf://datasets/…", nargs="+")
    parser.add("-o --output OUT", "the table: .npz, or .parquet with pyarrow", required=True)
    parser.add_model_arguments()
    parts = "embed the I-th of N equal parts, for job arrays (default: 1/1)"
    parser.add("--shard I/N", parts, type=shard, default="1/1")
    parser.add("--overwrite", "replace an existing table")
    parser.add_batch_arguments()


def shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 1 to N, such as 7/100, found {text}")
    return int(part), int(parts)


def run(args: argparse.Namespace) -> None:
    from zoo.recognition import embed_to_table

    table = embed_to_table(args.pictures, args.output, verifier_of(args), args.overwrite, args.workers, bar, args.shard)
    print_notes([] if args.json else table.failures, most=20, where=args.output)
    told = f"{table.path}: {table.faces:,} faces of {table.pictures:,} pictures, {len(table.failures):,} failed"
    print(table.to_json() if args.json else told)
