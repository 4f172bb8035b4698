"""Write the model card of a run: README.md, from its report, its facts and its recipe.

zoo card                       the newest run
zoo card runs/first --html     README.html beside it, to look at
"""

import argparse

from zoo.commands.options import Parser
from zoo.errors import InputError


def add_arguments(parser: Parser) -> None:
    parser.add("run RUN", "a run, its best/, or an adopted model (default: newest run)", nargs="?")
    parser.add("--name OWNER/NAME", "the name on the Hub (default: the run's)")
    parser.add_license_arguments()
    parser.add("--html", "write README.html too, to look at in a browser")


def run(args: argparse.Namespace) -> None:
    from zoo.publish import License, write_card

    license = License(args.license, args.license_name, args.license_link) if args.license else None
    if license is None and (args.license_name or args.license_link):
        raise InputError("expected --license other beside --license-name and --license-link, found no --license")
    print("\n".join(map(str, write_card(args.run, args.name, license, args.html))))
    if license is None:
        print("no license is stated: `zoo push` asks for --license")
