"""Enrol known people in a gallery file for `zoo identify`: one template per person, the mean of their photos.

DIR holds one sub-folder per person, named after them. Run it again to add photos or people; an interrupted run is
resumed. A gallery is biometric data: protect it as you would protect passwords.

zoo index people/ -o people.gallery --model model.onnx
zoo index -o people.gallery --list
zoo index -o people.gallery --remove "Ada Lovelace"
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from zoo.commands.options import add_batch_arguments, add_model_arguments, print_notes, verifier_of
from zoo.commands.progress import bar
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.recognition.gallery import Gallery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", nargs="?", help="a folder with one sub-folder per person")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the gallery file to create or to add to")
    parser.add_argument(
        "--remove", metavar="NAME", action="append", default=[], help="remove a person; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="print the people and how many photos each has")
    add_model_arguments(parser, every_face=False)
    add_batch_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from zoo.recognition import Gallery

    if (args.folder is not None) + bool(args.remove) + args.list != 1:
        raise InputError("expected one of: a folder of people, --remove NAME, --list; see `zoo index --help`")
    if args.list:
        people = Gallery.open(args.output).photo_counts()
        print(json.dumps(people, indent=2) if args.json else "\n".join(f"{n:6,}  {name}" for name, n in people.items()))
    elif args.remove:
        gallery = Gallery.open(args.output).remove(args.remove)
        gallery.save(args.output)
        _tell(args, gallery, f"removed {', '.join(args.remove)}")
    else:
        gallery, added = Gallery.index(args.folder, args.output, verifier_of(args), args.workers, bar)
        _tell(args, gallery, f"added {added:,} photos")
    return 0


def _tell(args: argparse.Namespace, gallery: Gallery, done: str) -> None:
    people, photos = len(gallery), int(gallery.photos.sum())
    if args.json:
        facts = {"gallery": args.output, "people": people, "photos": photos, "notes": gallery.notes}
        print(json.dumps(facts, indent=2))
    else:
        print_notes(gallery.notes)
        print(f"{done}; {args.output} now holds {people:,} people with {photos:,} photos")
