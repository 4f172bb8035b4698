"""Look at, check, convert and preview training sets and benchmarks.

  zoo data info PATH               identities, images, sizes, damage, duplicates
  zoo data check TRAIN --against BENCH   pictures that are in both: the leak that makes benchmark numbers lie
  zoo data pack PATH OUT           write a set as train.rec, train.idx and property, which MXNet reads too
  zoo data pack FOLDER OUT.bin --pairs LIST   write pairs as insightface's .bin
  zoo data extract PATH OUT        write the pictures of a set, or of a .bin, into a folder
  zoo data preview PATH            a contact sheet, originals above augmented ones

PATH is what `zoo train --data` takes: a folder of people's folders, .rec, .tar and .parquet files or folders of them,
a list of paths and labels, or hf://datasets/OWNER/NAME.

Example: zoo data info faces/ && zoo data pack faces/ faces_rec && zoo train resnet18 --data faces_rec
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.commands.progress import bar
from zoo.errors import Exit, InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|check|pack|extract|preview")

    def action(name: str, what: str, example: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            description=f"{what}\n\nExample: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    info = action("info", "What is in a set or a .bin.", "zoo data info faces_rec --json")
    info.add_argument("path", help="a training set, a .bin or a list of pairs")
    info.add_argument("--quick", action="store_true", help="labels only: read no picture")
    _workers_option(info)
    info.add_argument("--json", action="store_true", help="print the facts as JSON")

    check = action(
        "check",
        "Pictures of a benchmark that are in a training set too, by their bytes or nearly by what they show.\n"
        "Exit 0: none, 1: some.",
        "zoo data check faces_rec --against lfw.bin",
    )
    check.add_argument("train", help="the training set")
    check.add_argument("--against", required=True, metavar="BENCH", help="a .bin, a list of pairs, or another set")
    check.add_argument("--distance", type=int, default=None, help="bits of 256 within which pictures are near (50)")
    _workers_option(check)
    check.add_argument("--json", action="store_true", help="print every match as JSON")

    pack = action("pack", "A set as RecordIO files, or pairs as a .bin.", "zoo data pack faces/ faces_rec")
    pack.add_argument("path", help="the training set; with --pairs, the folder that the list's paths start from")
    pack.add_argument("out", help="a new folder; with --pairs, the .bin")
    pack.add_argument("--pairs", metavar="LIST", help="a CSV with the columns a,b,same, or LFW's pairs.txt")
    pack.add_argument("--image-size", type=int, metavar="PIXELS", help="scale pictures of another size")
    _corrupt_option(pack)

    extract = action("extract", "The pictures of a set or a .bin as files.", "zoo data extract lfw.bin lfw_pictures")
    extract.add_argument("path", help="the training set or the .bin")
    extract.add_argument("out", help="a new folder")
    _corrupt_option(extract)

    preview = action(
        "preview", "A contact sheet: originals above what training sees.", "zoo data preview faces/ --augment strong"
    )
    preview.add_argument("path", help="the training set")
    preview.add_argument("-o", "--out", default="preview.png", help="the PNG to write (preview.png)")
    preview.add_argument("--augment", default="strong", help="a preset, or an albumentations YAML file (strong)")
    preview.add_argument("--columns", type=int, default=12, help="pictures (12)")
    preview.add_argument("--epochs", type=int, default=4, help="rows of augmented pictures (4)")
    preview.add_argument("--seed", type=int, default=0, help="draws the pictures and their changes (0)")


def run(args: argparse.Namespace) -> int:
    """Does the action that was named."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "info": run_info,
        "check": run_check,
        "pack": run_pack,
        "extract": run_extract,
        "preview": run_preview,
    }
    return actions[args.action](args)


def run_info(args: argparse.Namespace) -> int:
    from zoo.data.audit import summary
    from zoo.data.open import open_pictures

    dataset = open_pictures(args.path)
    with bar("reading", len(dataset)) as done:
        facts = summary(dataset, quick=args.quick, workers=_workers(args, len(dataset)), progress=done)
    if note := getattr(getattr(dataset, "records", None), "index_note", ""):
        facts["index"] = note
    if args.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_info_lines(facts)))
    return 0


def run_check(args: argparse.Namespace) -> int:
    from zoo.data.audit import overlap
    from zoo.data.hashes import NEAR
    from zoo.data.open import open_pictures

    train, bench = open_pictures(args.train), open_pictures(args.against)
    distance = NEAR if args.distance is None else args.distance
    if not 0 <= distance <= 256:
        raise InputError(f"expected --distance between 0 and 256 bits, found {distance}")
    with bar("comparing", len(train) + len(bench)) as done:
        workers = _workers(args, max(len(train), len(bench)))
        found = overlap(train, bench, distance=distance, workers=workers, progress=done)
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(
            f"{found['exact'] + found['near']:,} of the {found['benchmark_images']:,} pictures of {found['benchmark']}"
            f" are in {found['train']}: {found['exact']:,} byte for byte, {found['near']:,} nearly"
            f" (within {distance} of 256 bits)"
        )
        for side, count in found["damaged"].items():
            if count:
                print(f"{count:,} damaged pictures of the {side} set were left out")
        for match in found["matches"][:20]:
            print(
                f"  {match['benchmark']}\n    = {match['train']} ({'same bytes' if match['exact'] else match['bits']})"
            )
        if len(found["matches"]) > 20:
            print(f"  … and {len(found['matches']) - 20:,} more; --json lists them all")
    return Exit.DIFFERENT if found["matches"] else Exit.OK


def run_pack(args: argparse.Namespace) -> int:
    from zoo.data.open import open_people
    from zoo.data.pack import pack_pairs, pack_records

    if args.pairs:
        same, different = pack_pairs(args.pairs, args.out, folder=args.path)
        print(f"{args.out}: {same + different:,} pairs, {same:,} of one person and {different:,} of two")
        return 0
    if args.image_size is not None and args.image_size < 1:
        raise InputError(f"expected --image-size of at least 1 pixel, found {args.image_size}")
    dataset = open_people(args.path)
    resize = None if args.image_size is None else (args.image_size, args.image_size)
    with bar("packing", len(dataset)) as done:
        problems = pack_records(dataset, args.out, resize=resize, skip_corrupt=args.on_corrupt == "skip", progress=done)
    print(f"{args.out}: {len(dataset) - len(problems):,} images, train.rec, train.idx and property")
    _report_problems(problems)
    return 0


def run_extract(args: argparse.Namespace) -> int:
    from zoo.data.open import open_people
    from zoo.data.pack import extract, extract_pairs

    if args.path.endswith(".bin"):
        print(f"{args.out}: {extract_pairs(args.path, args.out):,} pairs, listed in pairs.csv")
        return 0
    dataset = open_people(args.path)
    with bar("extracting", len(dataset)) as done:
        problems = extract(dataset, args.out, skip_corrupt=args.on_corrupt == "skip", progress=done)
    print(f"{args.out}: {len(dataset) - len(problems):,} images of {dataset.num_classes:,} identities")
    _report_problems(problems)
    return 0


def run_preview(args: argparse.Namespace) -> int:
    from zoo.data.augment import build_augmentation
    from zoo.data.open import open_dataset
    from zoo.data.preview import contact_sheet
    from zoo.files import write_bytes
    from zoo.formats.images import encode_png

    if args.columns < 1 or args.epochs < 1:
        raise InputError(f"expected at least one column and one epoch, found {args.columns} and {args.epochs}")
    augmentation = build_augmentation(args.augment)
    sheet = contact_sheet(
        open_dataset(args.path), augmentation, columns=args.columns, epochs=args.epochs, seed=args.seed
    )
    write_bytes(args.out, encode_png(sheet))
    print(f"{Path(args.out)}: originals in the first row, {augmentation.name} below; look at it")
    return 0


def _workers_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that unpack pictures (as many as cores for 20,000 pictures and more, else 1)",
    )


def _workers(args: argparse.Namespace, pictures: int) -> int:
    from zoo.data.scan import PAYS_FROM
    from zoo.machine import cores

    if args.workers is None:
        return cores() if pictures >= PAYS_FROM else 1
    if args.workers < 1:
        raise InputError(f"expected --workers of at least 1, found {args.workers}")
    return int(args.workers)


def _corrupt_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-corrupt",
        choices=("error", "skip"),
        default="error",
        help="stop at a damaged picture, or leave it out and say so (error)",
    )


def _report_problems(problems: list[str]) -> None:
    if problems:
        print(f"left out {len(problems):,} damaged pictures; the first: {problems[0]}", file=sys.stderr)


def _info_lines(facts: dict[str, Any]) -> list[str]:
    """The facts of a set for people."""
    lines = [f"{facts['name']}: {facts['format']}" + (f" (index: {facts['index']})" if "index" in facts else "")]
    if "pairs" in facts:
        lines.append(f"  {facts['images']:,} images in {facts['pairs']:,} pairs, {facts['same']:,} of one person")
    else:
        spread = facts["images_per_identity"]
        lines.append(f"  {facts['images']:,} images of {facts['identities']:,} identities")
        lines.append(
            f"  images per identity: mean {spread['mean']:.1f}, least {spread['q0']:.0f}, 5 % {spread['q5']:.0f},"
            f" median {spread['q50']:.0f}, 95 % {spread['q95']:.0f}, most {spread['q100']:.0f}"
        )
        top = max(spread["histogram"].values())
        width = max(map(len, spread["histogram"]))
        for span, count in spread["histogram"].items():
            lines.append(f"    {span:>{width}}  {'█' * round(40 * count / top) or '▏':<40}  {count:,}")
    if "sizes" in facts:
        sizes = list(facts["sizes"].items())
        more = f", {len(sizes) - 5:,} more sizes" if len(sizes) > 5 else ""
        lines.append(
            "  sizes (height×width): " + ", ".join(f"{size} {count:,}" for size, count in sizes[:5]) + more
            if sizes
            else "  sizes: no picture can be read"
        )
        lines.append(f"  {facts['bytes'] / 1e6:,.1f} MB of encoded pictures")
        lines.append(f"  damaged: {len(facts['corrupt']):,}")
        lines += [f"    {problem}" for problem in facts["corrupt"][:5]]
        twins = facts["duplicates"]
        lines.append(
            f"  duplicates: {twins['images_too_many']:,} images too many in {twins['groups']:,} groups,"
            f" {twins['across_identities']:,} of them across identities"
        )
        lines += [f"    {' = '.join(group[:3])}" for group in twins["examples"]]
    return lines
