"""Enrol known people in a gallery for `zoo identify`: one template per person, the mean of their photos.

DIR holds one sub-folder per person, named after them. Run it again to add photos or people, with --sync to take out as
well what is no longer there; an interrupted run is resumed. GALLERY is a file, or qdrant:URL/COLLECTION for one that
several services share. A gallery is biometric data: protect it as you would protect passwords.

zoo index people/ -o people.gallery --model model.onnx
zoo index people/ -o people.gallery --model model.onnx --sync
zoo index -o people.gallery --list
zoo index -o people.gallery --remove "Ada Lovelace" --remove-photo blurred.jpg
"""

import argparse
import json

from zoo.commands.options import Parser, answer, bar, verifier_of
from zoo.errors import Exit, InputError


def add_arguments(parser: Parser) -> None:
    parser.add("folder DIR", "a folder with one sub-folder per person", nargs="?")
    parser.add("-o --output GALLERY", "the gallery to create or to add to", required=True)
    parser.add("--sync", "take out photos that are not in DIR any more")
    parser.add("--remove NAME", "remove a person; may be repeated", action="append", default=[])
    parser.add("--remove-photo PHOTO", "remove a photo: a file, or its SHA-256", action="append", default=[])
    parser.add("--list", "print the people and how many photos each has")
    parser.add_model_arguments(every_face=False)
    parser.add_batch_arguments()


def run(args: argparse.Namespace) -> int:
    from zoo.recognition import Gallery
    from zoo.recognition.store import store_at

    removes = bool(args.remove or args.remove_photo)
    if (args.folder is not None) + removes + args.list != 1 or (args.sync and not args.folder):
        known = "a folder of people (with --sync or without), --remove NAME and --remove-photo PHOTO, --list"
        raise InputError(f"expected one of: {known}; see `zoo index --help`")
    if args.list:
        counts = store_at(args.output).photo_counts()
        print(json.dumps(counts, indent=2) if args.json else "\n".join(f"{n:6,}  {name}" for name, n in counts.items()))
        return Exit.OK
    if removes:
        done = Gallery.prune(args.output, args.remove, args.remove_photo)
    else:
        done = Gallery.index(args.folder, args.output, verifier_of(args), workers=args.workers, bar=bar, sync=args.sync)
    gallery = done.gallery
    people, photos = len(gallery), sum(gallery.photo_counts().values())
    counts = {"people": people, "photos": photos, "added": done.added, "removed": done.removed}
    removed = f" and removed {done.removed:,}" if done.removed else ""
    told = f"added {done.added:,} photos{removed}; {args.output} now holds {people:,} people with {photos:,} photos"
    return answer(args, {"gallery": args.output, **counts, "notes": gallery.notes}, [told])
