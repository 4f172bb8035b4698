"""The models on this machine that can be named: runs, and what was pulled from the Hub."""

import json
import re
from pathlib import Path
from typing import Any

from zoo.hub.checks import COMMIT
from zoo.hub.pull import CONFIG

Row = dict[str, Any]  #: One model: name, where it is, and head, backbone, data, dim and accuracy, None where not stated


def described(folder: Path, name: str, place: str) -> Row:
    """What config.json and report.json of a folder state; neither is trusted to be well-formed."""
    config, record = read(folder / CONFIG), read(folder / "report.json")
    block = config.get("zoo")
    facts: dict[str, Any] = block if isinstance(block, dict) else {}
    results = record.get("results")
    first = results[0] if isinstance(results, list) and results and isinstance(results[0], dict) else {}
    return {
        "name": name,
        "place": place,
        "head": short(facts.get("head")) and str(facts.get("head")).partition("(")[0],
        "backbone": short(facts.get("backbone") or config.get("architecture")),
        "training_set": short(facts.get("training_set")),
        "dim": config.get("num_classes") if isinstance(config.get("num_classes"), int) else None,
        "accuracy": first.get("accuracy") if isinstance(first.get("accuracy"), float) else None,
        "measured_on": short(first.get("data")),
    }


def read(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def short(value: object) -> str | None:
    """A string fit for a line of a terminal; None for anything else."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", value)[:80] if isinstance(value, str) and value else None


def cached_models() -> list[Row]:
    """The models in the Hub client's cache that hold weights, newest commit of each branch first by name."""
    from huggingface_hub import constants

    rows = []
    for snapshot in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots/*")):
        owner, _, name = snapshot.parent.parent.name.removeprefix("models--").partition("--")
        model = any((snapshot / file).exists() for file in ("model.onnx", "model.safetensors"))
        config = read(snapshot / CONFIG)
        ours = "zoo" in config or (not config and (snapshot / "model.onnx").exists())
        if model and ours and COMMIT.fullmatch(snapshot.name):
            rows.append(described(snapshot, f"{owner}/{name}@{snapshot.name[:12]}", "pulled"))
    return rows
