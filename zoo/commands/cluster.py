"""Sort faces without names into people, by average linkage above a threshold.

SOURCE is photos and folders, whose faces are embedded into OUT.npz first, or one table of `zoo embed`. The threshold is
--threshold, or the model's stored one for --far. OUT.html is a page of contact sheets; a face is called by its photo,
of several in a photo photo#1, photo#2 … Corrections are kept in OUT and hold whenever it is made again.

zoo cluster photos/ -o people.json --model model.onnx --far 0.0001
zoo cluster people.npz -o people.json --threshold 0.4 --different a.jpg b.jpg --same b.jpg 'party.jpg#2'
zoo cluster people.npz -o people.json --threshold 0.4 --folders people/
"""

import argparse
import json
from pathlib import Path

from zoo.commands.options import add_batch_arguments, add_model_arguments, print_notes, verifier_of
from zoo.commands.progress import bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", nargs="+", help="photos, folders of them, or one table of embeddings"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT.json", required=True, type=Path, help="the people and corrections"
    )
    add_model_arguments(parser, face="all")
    parser.add_argument("--far", type=float, metavar="RATE", help="use the model's stored threshold for this rate")
    parser.add_argument(
        "--threshold", type=float, metavar="COSINE", help="use this mean cosine as the threshold instead"
    )
    for flag, what in (("same", "are one person: their clusters are merged"), ("different", "are two people")):
        parser.add_argument(
            f"--{flag}", nargs=2, action="append", default=[], metavar=("A", "B"), help=f"faces A and B {what}"
        )
    parser.add_argument(
        "--folders", metavar="DIR", type=Path, help="write each person's crops, for `zoo index --aligned`"
    )
    add_batch_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from zoo.recognition.cluster import cluster
    from zoo.recognition.table import embed_to_table
    from zoo.recognition.threshold import decide

    table, verifier, decision = Path(args.source[0]), None, decide(None, None, args.threshold)
    if decision.threshold is None or table.suffix not in (".npz", ".parquet"):
        verifier = verifier_of(args, far=args.far, threshold=args.threshold)
        decision = verifier.decision
    if table.suffix not in (".npz", ".parquet"):
        table = args.output.with_suffix(".npz")
        assert verifier
        embed_to_table(args.source, table, verifier, overwrite=True, workers=args.workers, bar=bar)
    found = cluster(table, args.output, decision, map(tuple, args.same), map(tuple, args.different))
    page = args.output.with_suffix(".html")
    found.write_page(page)
    if args.folders:
        found.write_folders(args.folders)
    faces, people = len(found.faces.names), len(found.people)
    if args.json:
        facts = {"people": people, "faces": faces, "page": str(page), **decision.facts(), "notes": found.notes}
        print(json.dumps(facts, indent=2))
        return 0
    print_notes(found.notes)
    print(f"{args.output}: {people:,} people of {faces:,} faces, threshold {decision}; look at {page}")
    return 0
