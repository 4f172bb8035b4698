"""What a run was resumed with other than before: options in history.jsonl, a JSON object a line; machine.json."""

import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from zoo.files import write_json, write_text
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


def note_machine(run: Path, config: TrainConfig, device: torch.device, processes: int, resume: bool) -> list[str]:
    """Notes what a run trains on and, on a resume, says why it may not end as an uninterrupted run, bit for bit."""
    gpu, kept = device.type == "cuda", run / "machine.json"
    now = {
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if gpu else torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": None if gpu else torch.get_num_threads(),
        "processes": processes,
        "precision": config.precision,
    }
    before = json.loads(kept.read_text()) if resume and kept.is_file() else now
    write_json(kept, now)
    told = [f"{name} {now[name]} in place of {value}" for name, value in before.items() if now.get(name) != value]
    doubt = f"resumed with {', '.join(told)}: the weights will not be those of an uninterrupted run"
    sentences = [doubt] if told else []
    if resume and gpu and not config.deterministic:
        sentences.append("a run on a GPU repeats bit for bit only with --deterministic, which is slower (docs/gpu.md)")
    return sentences
