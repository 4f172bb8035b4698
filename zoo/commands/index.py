"""Keep known people as a gallery file for `zoo identify`: one template a person, the mean of the photos.

DIR holds one sub-folder a person, named after them. Run again with more photos or people, and they are added;
an interrupted run goes on where it stopped. A gallery is biometric data: keep it as you would keep passwords.

zoo index people/ -o people.gallery --model model.onnx
zoo index -o people.gallery --list
zoo index -o people.gallery --remove "Ada Lovelace"
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from zoo.commands.options import add_model_arguments
from zoo.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", nargs="?", help="a folder of people")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the gallery file, new or to be added to")
    parser.add_argument(
        "--remove", metavar="NAME", action="append", default=[], help="remove a person; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="print everybody with the number of photos")
    add_model_arguments(parser, every_face=False)
    parser.add_argument("--workers", type=int, default=2, help="threads that read and search photos (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for a script")


def run(args: argparse.Namespace) -> int:
    from zoo.recognition.gallery import Gallery

    path = Path(args.output)
    if (args.folder is not None) + bool(args.remove) + args.list != 1:
        raise InputError("expected one of: a folder of people, --remove NAME, --list; see `zoo index --help`")
    if args.list:
        gallery = Gallery.open(path)
        people = dict(zip(gallery.names(), gallery.photos.tolist(), strict=True))
        print(json.dumps(people, indent=2) if args.json else "\n".join(f"{n:6,}  {name}" for name, n in people.items()))
        return 0
    if args.remove:
        gallery = Gallery.open(path).without(args.remove)
        gallery.save(path)
        _tell(args, gallery, [], f"removed {', '.join(args.remove)}")
        return 0
    return _add(args, path)


def _add(args: argparse.Namespace, path: Path) -> int:
    from zoo.commands.progress import bar
    from zoo.recognition.batch import identity
    from zoo.recognition.gallery import Gallery, enrol, people_in
    from zoo.recognition.journal import Journal
    from zoo.recognition.verifier import FaceVerifier

    people, notes = people_in(args.folder)
    verifier = FaceVerifier(args.model, args.detector, face=args.face, aligned=args.aligned)
    facts = identity(verifier)
    if path.exists():
        gallery = Gallery.open(path)
        gallery.require(facts, path)
    else:
        gallery = Gallery.empty(verifier.embedder.embedding_dim, facts)
    with Journal(path.with_name(path.name + ".partial"), facts) as journal:
        with bar("index", sum(map(len, people.values()))) as advance:
            extended, more = enrol(gallery, verifier, people, journal, args.workers, advance)
        if not len(extended):
            raise InputError(f"expected at least one usable photo in {args.folder}, found none: {more[0]}")
        extended.save(path)
        journal.delete()
    _tell(args, extended, [*notes, *more], f"added {extended.photos.sum() - gallery.photos.sum():,} photos")
    return 0


def _tell(args: argparse.Namespace, gallery, notes: list[str], done: str) -> None:  # type: ignore[no-untyped-def]
    photos = int(gallery.photos.sum())
    if args.json:
        facts = {"gallery": args.output, "people": len(gallery), "photos": photos, "notes": notes}
        print(json.dumps(facts, indent=2))
        return
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{done}; {args.output} now holds {len(gallery):,} people with {photos:,} photos")
