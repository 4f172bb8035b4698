"""Turn pictures into a table of embeddings: path, box, landmarks, quality and unit-length embedding of each face.

An interrupted run is resumed: finished work is kept beside the output, in OUT.partial.

zoo embed photos/ -o photos.npz --model model.onnx
zoo embed a.jpg b.jpg -o faces.parquet --face all
"""

from __future__ import annotations

import argparse

from zoo.commands.options import add_batch_arguments, add_model_arguments, print_notes
from zoo.commands.progress import bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", metavar="IMAGES", nargs="+", help="pictures, or folders of them")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the table: .npz, or .parquet with pyarrow"
    )
    add_model_arguments(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing table")
    add_batch_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from zoo.recognition import FaceVerifier, embed_to_table

    verifier = FaceVerifier(args.model, args.detector, face=args.face, aligned=args.aligned)
    table = embed_to_table(args.pictures, args.output, verifier, args.overwrite, args.workers, bar)
    if args.json:
        print(table.to_json())
        return 0
    print_notes(table.failures, most=20, where=args.output)
    print(f"{table.path}: {table.faces:,} faces of {table.pictures:,} pictures, {len(table.failures):,} failed")
    return 0
