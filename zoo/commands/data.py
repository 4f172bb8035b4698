"""Inspect, check, convert and preview training sets and benchmarks.

  zoo data info PATH               identities, images, sizes, damage, duplicates
  zoo data check TRAIN --against BENCH   pictures that are in both: the leak that makes benchmark numbers lie
  zoo data pack PATH OUT           write a set as train.rec, train.idx and property, which MXNet reads too
  zoo data pack FOLDER OUT.bin --pairs LIST   write pairs as insightface's .bin
  zoo data extract PATH OUT        write the pictures of a set, or of a .bin, into a folder
  zoo data preview PATH            a contact sheet, originals above augmented ones
  zoo data clean RUN OUT           the set of a run without the images that its class centres call wrongly labelled

PATH is what `zoo train --data` takes: a folder with one sub-folder per person, .rec, .tar and .parquet files or folders
of them, a list of paths and labels, or hf://datasets/OWNER/NAME.

Example: zoo data info faces/ && zoo data pack faces/ faces_rec && zoo train resnet18 --data faces_rec
"""

import argparse
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoo.commands.options import Parser, bar
from zoo.errors import Exit

if TYPE_CHECKING:
    from zoo.data.audit import Summary
    from zoo.data.pack import Written


def add_arguments(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|check|pack|extract|clean|preview")

    def action(run: Callable[[argparse.Namespace], int | None], example: str, **named: str) -> Parser:
        parser = actions.add_parser(run.__name__, description=f"{inspect.getdoc(run)}\n\nExample: {example}")
        parser.set_defaults(run=run)
        for name, told in named.items():
            parser.add_argument(name, help=told)
        return parser

    decoding = "processes that decode pictures (default: one per core from 20,000 on)"
    damage = "stop at a damaged picture, or leave it out and say so (default: error)"
    corrupt: dict[str, Any] = {"choices": ("error", "skip"), "default": "error", "help": damage}
    new = "a new folder"

    one = action(info, "zoo data info faces_rec --json", path="a training set, a .bin or a list of pairs")
    one.add("--quick", "read the labels only, no pictures")
    one.add("--workers N", decoding, type=int)
    one.add_json("print the facts as JSON")

    one = action(check, "zoo data check faces_rec --against lfw.bin", train="the training set")
    one.add("--against BENCH", "a .bin, a list of pairs, or another set", required=True)
    one.add("--distance BITS", "bits of 256 within which pictures are near (default: 50)", type=int, default=50)
    one.add("--workers N", decoding, type=int)
    one.add_json("print every match as JSON")

    pictures = "the training set; with --pairs, the folder that the list's paths start from"
    one = action(pack, "zoo data pack faces/ faces_rec", path=pictures, out=f"{new}; with --pairs, the .bin")
    one.add("--pairs LIST", "a CSV with the columns a,b,same, or LFW's pairs.txt")
    one.add("--image-size PIXELS", "scale pictures of another size", type=int)
    one.add_argument("--on-corrupt", **corrupt)

    one = action(extract, "zoo data extract lfw.bin lfw_pictures", path="the training set or the .bin", out=new)
    one.add_argument("--on-corrupt", **corrupt)

    one = action(clean, "zoo data clean runs/noisy faces_clean && zoo train resnet18 --data faces_clean")
    one.add("train_run run", "a finished run: its name or folder")
    one.add("out out", new)
    one.add("--angle DEGREES", "degrees beyond which images go (default: 75)", type=float, default=75.0)
    one.add("--device DEVICE", "auto, cpu or cuda:N (default: auto)", default="auto")

    one = action(preview, "zoo data preview faces/ --augment strong", path="the training set")
    one.add("-o --out OUT", "the PNG to write (default: preview.png)", default="preview.png")
    one.add("--augment NAME", "a preset, or an albumentations YAML file (default: strong)", default="strong")
    one.add("--columns N", "how many pictures (default: 12)", type=int, default=12)
    one.add("--epochs N", "how many rows of augmented pictures (default: 4)", type=int, default=4)


def run(args: argparse.Namespace) -> int:
    return int(args.run(args) or Exit.OK)


def preview(args: argparse.Namespace) -> None:
    """A contact sheet: originals above what training sees."""
    from zoo.data.augment import preview

    preview(args.path, args.out, augment=args.augment, columns=args.columns, epochs=args.epochs)
    print(f"{args.out}: the first row shows originals, the rows below what {args.augment} makes of them")


def info(args: argparse.Namespace) -> None:
    """What is in a training set or benchmark."""
    from zoo.data.audit import summary

    facts = summary(args.path, quick=args.quick, workers=args.workers, bar=bar)
    print(json.dumps(facts.to_json(), indent=2, ensure_ascii=False) if args.json else "\n".join(lines_of(facts)))


def check(args: argparse.Namespace) -> int:
    """Pictures of a benchmark that are in a training set too: with the same bytes, or nearly the same to look at.

    Exit 0: none, 1: some.
    """
    from zoo.data.audit import overlap

    found = overlap(args.train, args.against, distance=args.distance, workers=args.workers, bar=bar)
    outcome = Exit.DIFFERENT if found.matches else Exit.OK
    if args.json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return outcome
    kinds = f"{found.exact:,} with the same bytes, {found.near:,} nearly (within {found.distance} of 256 bits)"
    of = f"{found.benchmark_images:,} pictures of {found.benchmark}"
    print(f"{found.exact + found.near:,} of the {of} are in {found.train}: {kinds}")
    for side, count in found.damaged.items():
        if count:
            print(f"{count:,} damaged pictures of the {side} set were left out")
    for match in found.matches[:20]:
        print(f"  {match.benchmark}\n    = {match.train} ({'same bytes' if match.exact else match.bits})")
    if len(found.matches) > 20:
        print(f"  … and {len(found.matches) - 20:,} more; --json lists them all")
    return outcome


def pack(args: argparse.Namespace) -> None:
    """Write a set as RecordIO files, or pairs as a .bin."""
    from zoo.data.pack import pack_pairs, pack_records

    if args.pairs:
        same, different = pack_pairs(args.pairs, args.out, folder=args.path)
        print(f"{args.out}: {same + different:,} pairs, {same:,} of one person and {different:,} of two")
        return
    skip = args.on_corrupt == "skip"
    written = pack_records(args.path, args.out, image_size=args.image_size, skip_corrupt=skip, bar=bar)
    print(f"{args.out}: {written.images:,} images, train.rec, train.idx and property")
    warn_of_problems(written)


def extract(args: argparse.Namespace) -> None:
    """Write the pictures of a set or a .bin as files."""
    from zoo.data.pack import extract, extract_pairs

    if args.path.lower().endswith(".bin"):
        print(f"{args.out}: {extract_pairs(args.path, args.out):,} pairs, listed in pairs.csv")
        return
    written = extract(args.path, args.out, skip_corrupt=args.on_corrupt == "skip", bar=bar)
    print(f"{args.out}: {written.images:,} images of {written.identities:,} identities")
    warn_of_problems(written)


def clean(args: argparse.Namespace) -> None:
    """The training set of a run without images that are far from the dominant sub-centre of their class.

    It is written as RecordIO files with removed.csv and centres.safetensors. Train the run with
    --set centres.sub_centres=3 for that.
    """
    from zoo.runs import find_run
    from zoo.train.people import clean

    done = clean(find_run(args.train_run), args.out, degrees=args.angle, device=args.device, bar=bar)
    left = f"beyond {args.angle:g}° of their class's dominant centre are left out (removed.csv)"
    left = f"{done.removed:,} images {left}, and {done.lost:,} identities"
    print(f"{args.out}: {done.images:,} images of {done.identities:,} identities; {left}")
    if done.sub_centres == 1:
        print("the run has one centre per class; --set centres.sub_centres=3 separates noise better", file=sys.stderr)


def warn_of_problems(written: "Written") -> None:
    if written.problems:
        print(f"left out {len(written.problems):,} damaged pictures; the first: {written.problems[0]}", file=sys.stderr)


def lines_of(facts: "Summary") -> list[str]:
    lines = [f"{facts.name}: {facts.format}" + (f" (index: {facts.index})" if facts.index else "")]
    lines += [f"  {note}" for note in facts.notes]
    if spread := facts.images_per_identity:
        lines.append(f"  {facts.images:,} images of {facts.identities:,} identities")
        rest = f"{spread['q5']:.0f}, median {spread['q50']:.0f}, 95 % {spread['q95']:.0f}, maximum {spread['q100']:.0f}"
        lines.append(f"  images per identity: mean {spread['mean']:.1f}, minimum {spread['q0']:.0f}, 5 % {rest}")
        top, width = max(spread["histogram"].values()), max(map(len, spread["histogram"]))
        bars = ((span, "█" * round(40 * count / top), count) for span, count in spread["histogram"].items())
        lines += [f"    {span:>{width}}  {bar or '▏':<40}  {count:,}" for span, bar, count in bars]
    else:
        lines.append(f"  {facts.images:,} images in {facts.pairs:,} pairs, {facts.same:,} of one person")
    if contents := facts.contents:
        sizes = [f"{size} {count:,}" for size, count in contents.sizes.items()] or ["no picture can be read"]
        more = [f"{len(sizes) - 5:,} more sizes"] if len(sizes) > 5 else []
        lines.append("  sizes (height×width): " + ", ".join(sizes[:5] + more))
        lines.append(f"  {contents.bytes / 1e6:,.1f} MB of encoded pictures")
        lines.append(f"  damaged: {len(contents.corrupt):,}")
        lines += [f"    {problem}" for problem in contents.corrupt[:5]]
        twins = contents.duplicates
        across = f"{twins.across_identities:,} of them across identities"
        lines.append(f"  duplicates: {twins.images_too_many:,} images too many in {twins.groups:,} groups, {across}")
        lines += [f"    {' = '.join(group[:3])}" for group in twins.examples]
    return lines
