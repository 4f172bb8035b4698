"""The options that several commands share."""

from __future__ import annotations

import argparse

MODEL_HELP = "a run, its folder, an ONNX file, or owner/name[@revision] on the Hub"
"""What MODEL may be, in every command's help."""


def add_model_arguments(parser: argparse.ArgumentParser, every_face: bool = True) -> None:
    """The options of every command that turns photos into embeddings."""
    parser.add_argument("--model", metavar="MODEL", help=f"{MODEL_HELP} (default: the newest run with a model.onnx)")
    parser.add_argument(
        "--detector", metavar="PATH", help="YuNet's ONNX file (default: the pinned one, from the Hugging Face Hub)"
    )
    rules = ("largest", "central", "all") if every_face else ("largest", "central")
    parser.add_argument(
        "--face", choices=rules, default="largest", help="which of several faces to take (default: largest)"
    )
    parser.add_argument("--aligned", action="store_true", help="the pictures are aligned crops: detect no faces")


def add_license_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that state a license."""
    parser.add_argument("--license", metavar="ID", help="the license of the weights, as the Hub names it, or other")
    parser.add_argument("--license-name", metavar="NAME", default="", help="with --license other: its name")
    parser.add_argument("--license-link", metavar="URL", default="", help="with --license other: its text")
