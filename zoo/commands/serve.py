"""Serve verification and a gallery over HTTP, with a page to try them in. Needs pip install 'timm-face-zoo[serve]'.

Only this machine can reach the server unless --host says otherwise; that needs --token-file. People are enrolled and
removed with --enrol alone, and every change needs the token. docs/serve.md tells of the interface and of running it.

zoo serve --model model.onnx
zoo serve --model model.onnx --gallery people.gallery --enrol --token-file token
zoo serve --model owner/name --host 0.0.0.0 --allow-host faces.example.org --token-file token --workers 2
"""

import argparse
import dataclasses
from pathlib import Path

from zoo.commands.options import add_model_arguments, add_options, given, positive
from zoo.errors import Exit, InputError
from zoo.serve.settings import Limits, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--gallery", metavar="FILE", type=Path, help="a gallery of `zoo index` to identify faces in")
    parser.add_argument("--far", type=float, metavar="RATE", help="verify at this false accept rate")
    parser.add_argument(
        "--fpir", type=float, metavar="RATE", help="identify at this false positive identification rate"
    )
    parser.add_argument("--threshold", type=float, metavar="COSINE", help="use this cosine similarity instead")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="the port to listen on (default: 8000)")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="the token in its first line; a missing file is made with a new one",
    )
    parser.add_argument("--no-auth", action="store_true", help="serve another --host without a token")
    parser.add_argument("--enrol", action="store_true", help="let holders of the token enrol and remove people")
    parser.add_argument("--allow-embeddings", action="store_true", help="give out embeddings, which are biometric data")
    parser.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[], help="a name that a reverse proxy serves it by"
    )
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads of one worker (default: the cores over the workers)"
    )
    add_options(parser, Limits)


def run(args: argparse.Namespace) -> int:
    try:
        from zoo.serve.server import serve
    except ImportError as error:
        raise InputError(f"serving needs {error.name}: pip install 'timm-face-zoo[serve]'") from None
    options = {
        field.name: getattr(args, field.name) for field in dataclasses.fields(Settings) if field.name != "limits"
    }
    options["allow_host"] = tuple(args.allow_host)
    options["detector"] = args.detector and Path(args.detector)
    serve(Settings(**options, limits=Limits(**given(args, Limits))))
    return Exit.OK
