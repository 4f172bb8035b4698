"""Move a gallery to another model: embed its photos again, or map its templates where the photos are gone.

zoo migrate people.gallery --to new.onnx --photos people/ -o new.gallery
zoo migrate people.gallery --to new.onnx --from old.onnx --learn others/ -o new.gallery

--learn DIR holds photos of any people, one sub-folder each: both models embed them, and the map between the two is
measured on people whom it was not learnt from. The gallery says that it was migrated, and how.
"""

import argparse

from zoo.commands.options import MODEL_HELP, Parser, answer, bar, limit_threads
from zoo.errors import InputError


def add_arguments(parser: Parser) -> None:
    parser.add("gallery GALLERY", "a gallery file of `zoo index`")
    parser.add("--to MODEL", MODEL_HELP, required=True)
    parser.add("-o --output FILE", "the new gallery file", required=True)
    parser.add("--photos DIR", "the gallery's photos, one sub-folder per person")
    parser.add("--from MODEL", "without photos: the model of the gallery", dest="old")
    parser.add("--learn DIR", "without photos: a folder of people to learn the map from")
    parser.add_argument("--far", type=float, default=1e-3, help="false accept rate of the loss (default: 0.001)")
    parser.add_argument("--max-loss", type=float, default=0.05, help="refuse a greater loss of TAR (default: 0.05)")
    parser.add_detector_arguments(every_face=False)
    parser.add("--aligned", "the pictures are aligned crops: detect no faces")
    parser.add_batch_arguments()


def run(args: argparse.Namespace) -> int:
    from zoo.recognition import FaceVerifier, Gallery
    from zoo.recognition.migrate import map_templates, re_embed

    if (args.photos is None) == (args.old is None) or (args.old is None) != (args.learn is None):
        raise InputError("expected either --photos DIR, or --from MODEL with --learn DIR; see `zoo migrate --help`")
    gallery = Gallery.open(args.gallery)
    flip = bool(gallery.facts.get("flip", True))
    limit_threads(args)
    options = {"face": args.face, "aligned": args.aligned, "flip": flip, "threads": args.threads}
    verifier = FaceVerifier(args.to, args.detector, **options)
    if args.photos is not None:
        migrated = re_embed(gallery, verifier, args.photos, args.output, args.workers, bar)
    else:
        old = FaceVerifier(args.old, args.detector, **options)
        limits = {"far": args.far, "max_loss": args.max_loss, "workers": args.workers, "bar": bar}
        migrated, _ = map_templates(gallery, old, verifier, args.learn, args.output, **limits)
    how = str(migrated.facts["migrated"])
    facts = {"gallery": args.output, "people": len(migrated), "migrated": how, "notes": migrated.notes}
    return answer(args, facts, [f"{args.output} holds {len(migrated):,} people: {how}"])
