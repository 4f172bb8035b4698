"""Sort faces without names into people, by average linkage above a threshold.

SOURCE is photos and folders, whose faces are embedded into OUT.npz first, or one table of `zoo embed`. The threshold is
--threshold, or the model's stored one for --far. OUT.html is a page of contact sheets; a face is called by its photo,
of several in a photo photo#1, photo#2 … Corrections are kept in OUT and hold whenever it is made again.

zoo cluster photos/ -o people.json --model model.onnx --far 0.0001
zoo cluster people.npz -o people.json --threshold 0.4 --different a.jpg b.jpg --same b.jpg 'party.jpg#2'
zoo cluster people.npz -o people.json --threshold 0.4 --folders people/
"""

import argparse
from pathlib import Path

from zoo.commands.options import Parser, answer, bar, verifier_of
from zoo.errors import InputError


def add_arguments(parser: Parser) -> None:
    parser.add("source SOURCE", "photos, folders of them, or one table of embeddings", nargs="+")
    parser.add("-o --output OUT.json", "the people and the corrections", required=True, type=Path)
    parser.add_model_arguments(face="all")
    parser.add("--far RATE", "use the model's stored threshold for this rate", type=float)
    parser.add("--threshold COSINE", "use this mean cosine as the threshold", type=float)
    for flag, what in (("same", "are one person: their clusters are merged"), ("different", "are two people")):
        told, pair = f"faces A and B {what}", ("A", "B")
        parser.add_argument(f"--{flag}", nargs=2, metavar=pair, action="append", default=[], help=told)
    parser.add("--folders DIR", "write each person's crops, for `zoo index --aligned`", type=Path)
    parser.add_batch_arguments()


def run(args: argparse.Namespace) -> int:
    from zoo.recognition.cluster import cluster, embed_to_table
    from zoo.recognition.threshold import decide

    if args.output.suffix in (".html", ".npz"):
        raise InputError(f"expected an output such as people.json, found {args.output}, the page's or the table's name")
    table, page = Path(args.source[0]), args.output.with_suffix(".html")
    embedded = table.suffix in (".npz", ".parquet")
    decided = embedded and args.threshold is not None
    verifier = None if decided else verifier_of(args, far=args.far, threshold=args.threshold)
    decision = verifier.decision if verifier else decide(None, args.far, args.threshold)
    if verifier and not embedded:
        table = args.output.with_suffix(".npz")
        embed_to_table(args.source, table, verifier, overwrite=True, workers=args.workers, bar=bar)
    found = cluster(table, args.output, decision, map(tuple, args.same), map(tuple, args.different))
    found.write_page(page)
    if args.folders:
        found.write_folders(args.folders)
    faces, people = len(found.faces.names), len(found.people)
    facts = {"people": people, "faces": faces, "page": str(page), **decision.facts(), "notes": found.notes}
    told = f"{args.output}: {people:,} people of {faces:,} faces, threshold {decision}; look at {page}"
    return answer(args, facts, [told])
