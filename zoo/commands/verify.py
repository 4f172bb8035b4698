"""Tell whether two pictures, photos or aligned face crops, show the same person.

Exit code 0: the same person; 1: different people; 3: no threshold is known, only the similarity; 2: wrong input.
With --pairs the exit code is 0 once every pair has been compared, whatever the verdicts.

zoo verify holiday.jpg passport.jpg --model model.onnx --threshold 0.3
zoo verify holiday.jpg passport.jpg --far 0.001 --draw answer.png
zoo verify --pairs pairs.csv --draw roc.png
"""

import argparse
from typing import TYPE_CHECKING

from zoo.commands.options import Parser, bar, print_notes, verifier_of
from zoo.errors import Exit, InputError

if TYPE_CHECKING:
    from zoo.faces.finder import FaceCrop
    from zoo.recognition import Verification
    from zoo.recognition.batch import VerifiedPairs

VERDICTS = {True: "the same person", False: "different people", None: "none, as no threshold is known"}


def add_arguments(parser: Parser) -> None:
    parser.add("a A", "a photo or an aligned crop", nargs="?")
    parser.add("b B", "the second picture", nargs="?")
    parser.add("--pairs CSV", "compare the pairs of a list instead of A and B; columns: a, b and same (1 or 0)")
    parser.add_model_arguments()
    rate = "use the model's stored threshold for this false accept rate, e.g. 0.001 (default: the smallest stored)"
    parser.add_threshold_arguments("--far", rate, "draw the faces and the verdict; with --pairs, the ROC curve")


def run(args: argparse.Namespace) -> int:
    if args.pairs and (args.a or args.b):
        raise InputError("expected two pictures or --pairs, found both; give one of them")
    if not args.pairs and not args.b:
        raise InputError("expected two pictures, found fewer; see `zoo verify --help`")
    verifier = verifier_of(args, far=args.far, threshold=args.threshold)
    if args.pairs:
        from zoo.recognition.batch import verify_pairs

        answers = verify_pairs(args.pairs, verifier, bar=bar)
        if not args.json:
            print_notes(list(dict.fromkeys(note for row in answers.rows for note in row.notes)), 20, "--json")
        print(answers.to_json() if args.json else table(answers))
        if args.draw:
            from zoo.recognition.identify import save_roc

            save_roc(args.draw, answers)
        return Exit.OK
    answer = verifier.verify(args.a, args.b)
    if args.draw:
        from zoo.recognition import draw_verification, save_picture

        save_picture(args.draw, draw_verification(args.a, args.b, answer))
    print(answer.to_json() if args.json else story(answer))
    return Exit.NO_VERDICT if answer.same is None else Exit.OK if answer.same else Exit.DIFFERENT


def table(answers: "VerifiedPairs") -> str:
    from zoo.formats.images import printable

    words = {True: "same", False: "different", None: "-"}
    marks = {True: "right", False: "WRONG", None: ""}
    lines = [f"{'similarity':>10}  {'verdict':<9}  {'truth':<9}  {'':<5}  pictures"]
    for row in answers.rows:
        similarity = "failed" if row.similarity is None else f"{row.similarity:.4f}"
        verdict = f"{words[row.same]:<9}  {words[row.truth]:<9}  {marks[row.right]:<5}"
        lines.append(f"{similarity:>10}  {verdict}  {printable(row.a)}  {printable(row.b)}")
    failed, summary = answers.failed, answers.summary
    lines += ["", f"pairs       {len(answers.rows):,}, of which {len(failed):,} failed"]
    lines += [f"            {reason}" for reason in dict.fromkeys(row.reason for row in failed)]
    lines.append(f"threshold   {answers.decision}")
    if summary is None:
        return "\n".join([*lines, "truth       not known for pairs of both kinds: no ROC curve"])
    if summary.judged:
        lines.append(f"right       {summary.right:,} of {summary.judged:,}")
    lines += [f"AUC         {summary.auc:.6f}", f"EER         {summary.eer:.4%}"]
    lines += [f"TAR         {tar:.4%} at FAR {far:g}" for far, tar in summary.tar_at_far.items()]
    if summary.separating:
        worst, best = summary.separating
        lines.append(f"separation  every threshold from {worst:.4f} to {best:.4f} is right for all pairs")
    return "\n".join(lines)


def story(answer: "Verification") -> str:
    lines = [f"A           {sighting(answer.a)}", f"B           {sighting(answer.b)}", f"model       {answer.model}"]
    lines += [f"similarity  {answer.similarity:.4f}", f"threshold   {answer.decision}"]
    lines += [f"note        {note}" for note in answer.notes]
    return "\n".join([*lines, f"verdict     {VERDICTS[answer.same]}"])


def sighting(crop: "FaceCrop") -> str:
    if crop.face is None:
        return f"{crop.name}: an aligned crop"
    _, _, width, height = crop.face.box
    eyes = crop.quality.eye_distance or 0
    return f"{crop.name}: a face of {width:.0f}×{height:.0f} pixels, {eyes:.0f} between the eyes"
