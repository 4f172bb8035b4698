"""Serve verification and a gallery over HTTP, with a page to try them in. Needs pip install 'timm-face-zoo[serve]'.

Only this machine can reach the server unless --host says otherwise; that needs --token-file. People are enrolled and
removed with --enrol alone, and every change needs the token. docs/serve.md describes the interface.

zoo serve --model model.onnx
zoo serve --model model.onnx --gallery people.gallery --enrol --token-file token
zoo serve --model owner/name --host 0.0.0.0 --allow-host faces.example.org --token-file token --workers 2
"""

import argparse

from zoo.commands.options import Parser, given, given_input
from zoo.errors import InputError
from zoo.serve.settings import Limits, Settings


def add_arguments(parser: Parser) -> None:
    parser.add_model_arguments()
    parser.add_options(Settings)
    parser.add("--allow-host NAME", "a name that a reverse proxy serves it by", action="append", default=[])
    parser.add_options(Limits)


def run(args: argparse.Namespace) -> None:
    try:
        from zoo.serve.server import serve
    except ImportError as error:
        raise InputError(f"serving needs {error.name}: pip install 'timm-face-zoo[serve]'") from None
    chosen = {**given(args, Settings), "allow_host": tuple(args.allow_host), "input": given_input(args)}
    serve(Settings(**chosen, limits=Limits(**given(args, Limits))))
