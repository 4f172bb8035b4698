"""Tell who is on a photo, among the people of a gallery, or that it is nobody of them.

A face is nobody's unless its best similarity is above a threshold: --threshold, or the stored one that keeps the
false positive identification rate --fpir with this many people. Exit code 0: somebody was identified; 1: nobody;
3: no threshold is known, only the ranking; 2: wrong input.

zoo identify party.jpg --gallery people/ --model model.onnx --threshold 0.4 --draw answer.png
zoo identify party.jpg --gallery people.gallery --fpir 0.01
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.commands.options import add_model_arguments
from zoo.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.recognition.gallery import Gallery, Identification
    from zoo.recognition.verifier import Decision, FaceVerifier

IDENTIFIED, NOBODY, NO_VERDICT = 0, 1, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", help="a photo of one person or several")
    parser.add_argument(
        "--gallery", metavar="DIR|FILE", required=True, help="a folder of people, or a gallery of `zoo index`"
    )
    add_model_arguments(parser)
    parser.set_defaults(face="all")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="how many people to rank (default: 5)")
    parser.add_argument("--fpir", type=float, help="the false positive identification rate to keep, e.g. 0.01")
    parser.add_argument("--threshold", type=float, help="use this cosine similarity as the threshold instead")
    parser.add_argument("--draw", metavar="OUT.png", help="draw the photo with every face and its name")
    parser.add_argument("--json", action="store_true", help="print one JSON object for a script")


def run(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise InputError(f"expected to rank at least 1 person, found --top {args.top}")
    if args.draw:
        from zoo.recognition.draw import require_picture_name

        require_picture_name(args.draw)
    from zoo.recognition.gallery import decide_identification, identify
    from zoo.recognition.verifier import FaceVerifier

    verifier = FaceVerifier(args.model, args.detector, face=args.face, aligned=args.aligned)
    gallery, notes = open_gallery(args, verifier)
    decision = decide_identification(verifier.embedder.info, len(gallery), args.fpir, args.threshold)
    crops = verifier.crops(args.photo) if args.face == "all" else [verifier.crop(args.photo)]
    answers = identify(gallery, verifier, crops, decision.threshold, args.top)
    if args.draw:
        from zoo.formats.photos import read_photo
        from zoo.recognition.draw import draw_faces, save_picture

        named = [(one.crop.face, label(one, decision)) for one in answers if one.crop.face]
        save_picture(args.draw, draw_faces(read_photo(args.photo), named))
    if args.json:
        print(json.dumps(record(answers, gallery, decision, notes), indent=2))
    else:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        print(story(answers, decision))
    if decision.threshold is None:
        return NO_VERDICT
    return IDENTIFIED if any(one.identified for one in answers) else NOBODY


def label(one: Identification, decision: Decision) -> str:
    """What is drawn above a face: the name and the similarity; a question mark where there is no threshold."""
    name, similarity = one.candidates[0]
    known = one.identified or ("nobody" if decision.threshold is not None else f"{name}?")
    return f"{known} {similarity:.2f}"


def story(answers: Sequence[Identification], decision: Decision) -> str:
    """What people read."""
    lines = []
    threshold = decision.threshold
    for number, one in enumerate(answers, 1):
        where = f" at ({one.crop.face.box[0]:.0f}, {one.crop.face.box[1]:.0f})" if one.crop.face else ""
        lines.append(f"face {number}{where}: {one.identified or ('no verdict' if threshold is None else 'nobody')}")
        lines += [f"    {similarity:7.4f}  {name}" for name, similarity in one.candidates]
        lines += [f"    note: {note}" for note in one.crop.notes]
    lines.append(f"threshold   {'unknown' if threshold is None else f'{threshold:.4f}'}: {decision.origin}")
    return "\n".join(lines)


def record(
    answers: Sequence[Identification], gallery: Gallery, decision: Decision, notes: Sequence[str]
) -> dict[str, Any]:
    """What scripts read."""
    return {
        "people": len(gallery),
        "threshold": decision.threshold,
        "origin": decision.origin,
        "faces": [
            {
                "box": list(one.crop.face.box) if one.crop.face else None,
                "identified": one.identified,
                "candidates": [{"name": name, "similarity": similarity} for name, similarity in one.candidates],
                "notes": list(one.crop.notes),
            }
            for one in answers
        ],
        "notes": list(notes),
    }


def open_gallery(args: argparse.Namespace, verifier: FaceVerifier) -> tuple[Gallery, list[str]]:
    """The gallery of `--gallery`: a saved one, or a folder of people, enrolled for this one question."""
    from zoo.formats.photos import printable
    from zoo.recognition.batch import identity
    from zoo.recognition.gallery import Gallery, enrol, people_in

    path = Path(args.gallery)
    facts = identity(verifier)
    if not path.is_dir():
        gallery = Gallery.open(path)
        gallery.require(facts, path)
        if not len(gallery):
            raise InputError(f"expected people in {printable(path)}, found nobody; add some with `zoo index`")
        return gallery, []
    import tempfile

    from zoo.commands.progress import bar
    from zoo.recognition.journal import Journal
    from zoo.recognition.verifier import FaceVerifier

    people, notes = people_in(path)
    enroller = FaceVerifier(
        verifier.embedder, verifier.detector_if_needed, aligned=verifier.aligned, flip=verifier.flip
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "journal", facts) as journal,
        bar("enrol", sum(map(len, people.values()))) as advance,
    ):
        empty = Gallery.empty(verifier.embedder.embedding_dim, facts)
        gallery, more = enrol(empty, enroller, people, journal, progress=advance)
    if not len(gallery):
        raise InputError(f"expected at least one usable photo in {printable(path)}, found none: {more[0]}")
    return gallery, [*notes, *more]
