"""Identify the faces in a photo among the people of a gallery.

A face is identified when its best similarity is above a threshold: --threshold, or the stored threshold that keeps the
false positive identification rate --fpir with this many people. Exit code 0: at least one face was identified; 1: none;
3: no threshold is known, people are only ranked; 2: wrong input. Of several photos or a folder, one that cannot be used
is noted and passed over, and --json prints a line for each.

zoo identify party.jpg --gallery people/ --model model.onnx --threshold 0.4 --draw answer.png
zoo identify party.jpg --gallery people.gallery --fpir 0.01
zoo identify holiday/ --gallery people.gallery --threshold 0.4 --json
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.commands.options import Parser, bar, positive, print_notes, verifier_of
from zoo.errors import Exit, InputError

if TYPE_CHECKING:
    from zoo.recognition import Identification


def add_arguments(parser: Parser) -> None:
    parser.add("photos PHOTO", "photos of one or more people, or folders of them", nargs="+")
    people = "a folder of people, or a gallery of `zoo index`: a file, or qdrant:URL/COLLECTION"
    parser.add("--gallery GALLERY", people, required=True)
    parser.add_model_arguments(face="all")
    parser.add("--top K", "how many people to rank (default: 5)", type=positive, default=5)
    rate = "use the stored threshold that keeps this false positive identification rate, e.g. 0.01"
    parser.add_threshold_arguments("--fpir", rate, draw="draw the photo with every face and its name")


def run(args: argparse.Namespace) -> int:
    from zoo.recognition import Gallery
    from zoo.recognition.identify import identify_many

    alone = len(args.photos) == 1 and not Path(args.photos[0]).is_dir()
    if args.draw and not alone:
        raise InputError("expected one photo with --draw, found several or a folder")
    verifier = verifier_of(args)
    gallery = Gallery.of(args.gallery, verifier, bar=bar)
    options = {"fpir": args.fpir, "threshold": args.threshold, "top": args.top}
    answers = [("", gallery.identify(args.photos[0], verifier, **options))] if alone else ()
    codes = set()
    for path, answer in answers or identify_many(gallery, args.photos, verifier, **options):
        if isinstance(answer, InputError):
            print_notes([str(answer)])
            continue
        if args.draw:
            from zoo.recognition.identify import draw_identification, save_picture

            save_picture(args.draw, draw_identification(args.photos[0], answer))
        if not args.json:
            print_notes(answer.notes)
        told = answer.to_json() if args.json else story(answer)
        if path:
            told = json.dumps({"path": path, **json.loads(told)}) if args.json else f"{path}\n{told}\n"
        print(told)
        known = any(face.name for face in answer.faces)
        codes.add(Exit.NO_VERDICT if answer.decision.threshold is None else Exit.OK if known else Exit.DIFFERENT)
    if not codes:
        raise InputError(f"expected a usable photo in {' '.join(args.photos)}, found none")
    return min(codes)


def story(answer: "Identification") -> str:
    lines = []
    unknown = "no verdict" if answer.decision.threshold is None else "nobody"
    for number, face in enumerate(answer.faces, 1):
        where = f" at ({face.crop.face.box[0]:.0f}, {face.crop.face.box[1]:.0f})" if face.crop.face else ""
        lines.append(f"face {number}{where}: {face.name or unknown}")
        lines += [f"    {similarity:7.4f}  {name}" for name, similarity in face.candidates]
        lines += [f"    note: {note}" for note in face.crop.notes]
    return "\n".join([*lines, f"threshold   {answer.decision}"])
