"""Checkpoints that are whole or absent: a folder a step, a manifest of its files, and a pointer to the newest.

    checkpoint/step-00000120/{.metadata, __0_0.distcp, …, manifest.json}
    checkpoint/latest                                  the name of the newest whole step

torch.distributed.checkpoint reads `.metadata` with pickle: load only checkpoints of one's own.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from zoo.errors import InputError
from zoo.files import fsync_folder, write_json, write_text

State = dict[str, Any]
"""Everything that must survive a restart: nested dictionaries of tensors and plain values."""


def save(state: State, folder: Path, step: int, keep: int) -> Path:
    """Writes `state` as step number `step` of `folder`, then removes all but the newest `keep` steps.

    A crash or a full disk at any moment leaves the previous checkpoint whole: the files are written and flushed
    under a temporary name, and the pointer moves last. Called by every rank; rank 0 renames.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f".step-{step:08d}.tmp"
    first = rank() == 0
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
    barrier()
    try:
        writer = FileSystemWriter(temporary, thread_count=1, sync_files=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="torch.distributed.checkpoint")
            dcp_save(state, storage_writer=writer, no_dist=not dist.is_initialized())
        if first:
            write_json(temporary / "manifest.json", manifest(temporary))
            shutil.rmtree(final, ignore_errors=True)
            fsync_folder(temporary)
            os.rename(temporary, final)
            write_text(folder / "latest", final.name + "\n")
            for old in steps(folder)[:-keep]:
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, CheckpointException) as trouble:
        shutil.rmtree(temporary, ignore_errors=True)
        error = disk_error(trouble)
        if error is None:
            raise
        raise InputError(
            f"could not write the checkpoint {final} ({error.strerror}); the one before it is whole:"
            " make room and --resume"
        ) from None
    barrier()
    return final


def disk_error(trouble: OSError | CheckpointException) -> OSError | None:
    """What the system said when a file could not be written, from under torch's wrapping; None for another fault."""
    if isinstance(trouble, OSError):
        return trouble
    causes = [failure[0] for failure in trouble.failures.values()]
    return next((cause for cause in causes if isinstance(cause, OSError)), None)


def load(state: State, folder: Path) -> tuple[int, list[str]]:
    """Fills `state` in place from the newest whole checkpoint of `folder`; returns its step and what was passed over.

    A truncated, changed or missing file makes a checkpoint damaged: it is named and the one before it is used.
    InputError where none is whole.
    """
    passed_over = []
    for candidate in reversed(steps(folder)):
        fault = damage(candidate)
        if fault:
            passed_over.append(f"{candidate.name} is damaged ({fault}); the checkpoint before it is used")
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="torch.distributed.checkpoint")
            dcp_load(state, storage_reader=FileSystemReader(candidate), no_dist=not dist.is_initialized())
        return int(candidate.name.removeprefix("step-")), passed_over
    found = "; ".join(passed_over) or "none"
    raise InputError(f"expected a whole checkpoint in {folder}, found {found}; start the run again without --resume")


def steps(folder: Path) -> list[Path]:
    """The checkpoints of a run that were completed, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def manifest(folder: Path) -> dict[str, list[int]]:
    """{file name: [size in bytes, CRC-32]} of every file in `folder`: proof against accidents, not against malice."""
    return {
        file.name: [file.stat().st_size, checksum(file)]
        for file in sorted(folder.iterdir())
        if file.name != "manifest.json"
    }


def checksum(file: Path) -> int:
    """The CRC-32 of a file's content."""
    value = 0
    with open(file, "rb") as content:
        while block := content.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint, naming the file; empty where it is whole."""
    try:
        expected = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return "manifest.json is missing or unreadable"
    for name, (size, crc) in expected.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, not {size}"
        if checksum(file) != crc:
            return f"{name} has other bytes than were written"
    return ""


def rank() -> int:
    """This process's number among all; 0 where there is one only."""
    return dist.get_rank() if dist.is_initialized() else 0


def barrier() -> None:
    """Waits for every process."""
    if dist.is_initialized():
        dist.barrier()
