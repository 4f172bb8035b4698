"""What a run was resumed with other than before: history.jsonl, a JSON object a line."""

import json
import time
from dataclasses import replace
from pathlib import Path

from zoo.files import write_text
from zoo.train.config import TrainConfig, changes, load_config, save_config


def note_changes(run: Path, config: TrainConfig, step: int) -> None:
    """Notes the options that a resumed run mends from `step` on in its config.yaml, and both values in its history."""
    saved = load_config(run / "config.yaml")
    mended = {name: getattr(config, name) for name in changes(saved, config, mendable=True)}
    if not mended:
        return
    changed = {name: [getattr(saved, name), value] for name, value in mended.items()}
    line = {"step": step, "time": round(time.time(), 3), "changed": changed}
    history = run / "history.jsonl"
    before = history.read_text(encoding="utf-8") if history.is_file() else ""
    write_text(history, f"{before}{json.dumps(line)}\n")
    save_config(replace(saved, **mended), run / "config.yaml")
