"""Turn pictures into embeddings: a table with path, box, landmarks, quality and the unit-length embedding.

An interrupted run goes on where it stopped: what is done is kept beside the output, in OUT.partial.

zoo embed photos/ -o photos.npz --model model.onnx
zoo embed a.jpg b.jpg -o faces.parquet --face all
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from zoo.commands.options import add_model_arguments
from zoo.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", metavar="IMAGES", nargs="+", help="pictures, or folders of them")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the table: .npz, or .parquet with pyarrow"
    )
    add_model_arguments(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing table")
    parser.add_argument("--workers", type=int, default=2, help="threads that read and search pictures (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for a script")


def run(args: argparse.Namespace) -> int:
    from zoo.commands.progress import bar
    from zoo.recognition.batch import embed_pictures, identity, pictures_in
    from zoo.recognition.journal import Journal
    from zoo.recognition.table import require_table_name, write_table
    from zoo.recognition.verifier import FaceVerifier

    path = Path(args.output)
    require_table_name(path)
    partial = path.with_name(path.name + ".partial")
    if path.exists() and not partial.exists() and not args.overwrite:
        raise InputError(f"expected no file at {path} yet, found one; give --overwrite, or another name")
    pictures = list(dict.fromkeys(pictures_in(args.pictures)))
    if not pictures:
        raise InputError(f"expected pictures in {' '.join(args.pictures)}, found none")
    verifier = FaceVerifier(args.model, args.detector, face=args.face, aligned=args.aligned)
    with Journal(partial, identity(verifier)) as journal:
        with bar("embed", len(pictures)) as advance:
            added = embed_pictures(verifier, pictures, journal, workers=args.workers, progress=advance)
        rows, failed = write_table(path, journal, pictures, verifier.embedder.embedding_dim)
        journal.delete()
    facts = {
        "output": str(path),
        "pictures": len(pictures),
        "embedded_now": added,
        "faces": rows,
        "failed": len(failed),
    }
    if args.json:
        print(json.dumps({**facts, "failures": failed}, indent=2))
        return 0
    for reason in failed[:20]:
        print(f"note: {reason}", file=sys.stderr)
    if len(failed) > 20:
        print(f"note: and {len(failed) - 20:,} more, listed in {path}", file=sys.stderr)
    print(f"{path}: {rows:,} faces of {len(pictures):,} pictures, {len(failed):,} failed")
    return 0
