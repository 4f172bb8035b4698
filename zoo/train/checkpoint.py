"""Checkpoints that are whole or absent: a folder per step, a manifest of its files, and a pointer to the newest.

    checkpoint/step-00000120/{.metadata, __0_0.distcp, …, manifest.json}
    checkpoint/latest                                  the name of the newest whole step
    checkpoint/best                                    the name of the one with the best validation

torch.distributed.checkpoint reads `.metadata` with pickle: load only checkpoints of one's own.
"""

import contextlib
import json
import math
import os
import shutil
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint._state_dict_stager import StateDictStager
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from zoo.errors import InputError
from zoo.files import atomic_path, fsync_folder, write_json, write_text
from zoo.train.distributed import Rank, agreed, everywhere, sees_folder

# it warns whenever there is one process only; a filter around one call would not be safe in a thread
warnings.filterwarnings("ignore", category=UserWarning, module="torch.distributed.checkpoint")

Group = dist.ProcessGroup | None
State = dict[str, Any]  #: Everything that must survive a restart: nested dictionaries of tensors and plain values


class Saver:
    """Writes checkpoints in a thread beside the training, which waits only while its state is copied.

    One is written at a time. The processes of a run coordinate in a group of their own, so that its collectives do not
    mix with those of the training. As a context it waits for the last one at its end.
    """

    def __init__(self, folder: Path, keep: int, minutes: float | None = None, gather: bool = False) -> None:
        """`minutes` after a checkpoint another one is `due`; with None, none is due by the clock."""
        self.folder, self.keep, self.gather = folder, keep, gather
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.since = time.monotonic()
        self.group = cast(dist.ProcessGroup, dist.new_group(backend="gloo")) if dist.is_initialized() else None
        self.stager = StateDictStager()  # torch 2.11's public DefaultStager fails at its second copy: KeyError type
        self.thread: threading.Thread | None = None
        self.trouble: BaseException | None = None

    def due(self) -> bool:
        """Whether the minutes since the previous checkpoint have passed, whatever caused that one."""
        return time.monotonic() - self.since >= self.seconds

    def save(self, state: State, step: int, best: int = 0) -> None:
        """Starts `save` in the background; raises what the previous one failed with."""
        self.wait()
        self.thread = threading.Thread(target=self._write, args=(self.stager.stage(state), step, best), daemon=True)
        self.thread.start()
        self.since = time.monotonic()

    def _write(self, state: State, step: int, best: int) -> None:
        try:
            save(state, self.folder, step, self.keep, best, self.group, self.gather)
        except BaseException as trouble:  # raised by `wait`, in the thread that trains
            self.trouble = trouble

    def wait(self) -> None:
        """Waits until the last checkpoint is whole on the disk; raises what it failed with."""
        if self.thread:
            self.thread.join()
        if self.trouble:
            raise self.trouble

    def mark_best(self, step: int) -> None:
        """Points to `step`, once it is whole, as the one with the best validation."""
        self.wait()
        prune(self.folder, self.keep, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.wait()
        elif self.thread and not isinstance(error, KeyboardInterrupt):
            self.thread.join()


def save(
    state: State, folder: Path, step: int, keep: int, best: int = 0, group: Group = None, gather: bool = False
) -> Path:
    """Writes `state` as step number `step` of `folder`, then removes all but the newest `keep` steps and step `best`.

    A crash or a full disk at any moment leaves the previous checkpoint whole: the files are written and flushed
    under a temporary name, and the pointer moves last. Called by every rank of `group`; rank 0 renames. With `gather`
    each rank's `folder` may be on a machine of its own, and rank 0 gets the files of all.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f".step-{step:08d}.tmp"
    several = dist.is_initialized()
    first = not several or dist.get_rank() == 0
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
    if several:
        dist.barrier(group)
    try:
        writer = FileSystemWriter(temporary, thread_count=1, sync_files=True)
        dcp_save(state, storage_writer=writer, process_group=group, no_dist=not several)
        if gather and several:
            parts: list[list[str]] = [[]] * dist.get_world_size()
            dist.all_gather_object(parts, sorted(path.name for path in temporary.glob(f"__{dist.get_rank()}_*")), group)
            for source, names in list(enumerate(parts))[1:]:
                share(temporary, names, source, first and not (temporary / names[0]).exists(), group)
        if first:
            write_json(temporary / "manifest.json", manifest(temporary))
            shutil.rmtree(final, ignore_errors=True)
            fsync_folder(temporary)
            os.rename(temporary, final)
            write_text(folder / "latest", final.name + "\n")
            prune(folder, keep, best)
    except (OSError, CheckpointException) as trouble:
        shutil.rmtree(temporary, ignore_errors=True)
        error = disk_error(trouble)
        if error is None:
            raise
        advice = "the one before it is whole: make room and --resume"
        raise InputError(f"could not write the checkpoint {final} ({error.strerror}); {advice}") from None
    if several:
        dist.barrier(group)
    if gather:  # what this machine had of it
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def share(folder: Path, names: Sequence[str], source: int, takes: bool, group: Group = None) -> None:
    """Copies files in `folder` of the process `source` to the folders of those that take them, a piece at a time.

    Called by every rank of `group`. A file appears under its name once it is whole.
    """
    mine = dist.get_rank() == source
    for name in names:
        part = folder / f".{name}.part"
        with open(part if takes else folder / name if mine else os.devnull, "wb" if takes else "rb") as file:
            piece = [b"more"]
            while piece[0]:
                piece = [file.read(1 << 26) if mine else b""]
                dist.broadcast_object_list(piece, source, group)
                if takes:
                    file.write(piece[0])
        if takes:
            os.replace(part, folder / name)


@contextlib.contextmanager
def handed_out(folder: Path, rank: Rank) -> Iterator[Path]:
    """The first process's `folder` of checkpoints: itself or, on another machine, a copy of the newest whole one."""
    newest = everywhere(agreed(lambda: newest_whole(folder) if rank.first else folder, rank), rank)
    names = everywhere(sorted(path.name for path in newest.iterdir()) if rank.first else [], rank)
    away = not sees_folder(folder, rank)
    with tempfile.TemporaryDirectory() as copy:
        place = Path(copy) if away else folder
        (place / newest.name).mkdir(exist_ok=True)
        share(place / newest.name, names, 0, away)
        yield place


def prune(folder: Path, keep: int, best: int) -> None:
    """Points to step `best` (0: none) and removes all others but the newest `keep` steps."""
    kept = folder / f"step-{best:08d}" if best else None
    if kept and kept.is_dir():
        write_text(folder / "best", kept.name + "\n")
    for old in steps(folder)[:-keep]:
        if old != kept:
            shutil.rmtree(old, ignore_errors=True)


def disk_error(trouble: OSError | CheckpointException) -> OSError | None:
    """The system's error behind a file that could not be written, unwrapped from torch's; None for another fault."""
    failures = [failure[0] for failure in trouble.failures.values()] if isinstance(trouble, CheckpointException) else []
    for failure in [trouble, *failures]:
        cause: BaseException | None = failure
        while cause is not None:  # torch.save ends its file on a full disk too, and raises another error on top
            if isinstance(cause, OSError):
                return cause
            cause = cause.__context__
    return None


def load(state: State, folder: Path) -> tuple[int, list[str]]:
    """Fills `state` in place from the newest whole checkpoint of `folder`; returns its step and what was skipped.

    A truncated, changed or missing file makes a checkpoint damaged: it is named and the one before it is used.
    InputError where none is whole, and for one of another model or of another number of people.
    """
    passed_over: list[str] = []
    newest = newest_whole(folder, passed_over)
    reader = FileSystemReader(newest)
    misfit = other_shape(state, reader)
    if misfit:
        advice = "resume with the options and the training set that the run began with"
        raise InputError(f"expected the model and the people of this run in {newest}, found {misfit}; {advice}")
    if state.get("scaler") and "scaler.scale" not in reader.read_metadata().state_dict_metadata:
        state["scaler"] = {}  # the run was not in fp16 so far
    dcp_load(state, storage_reader=reader, no_dist=not dist.is_initialized())
    return int(newest.name.removeprefix("step-")), passed_over


def newest_whole(checkpoints: Path, passed_over: list[str] | None = None) -> Path:
    """The newest checkpoint that is as it was written; InputError where none is.

    `passed_over` gets a sentence on each later one, which is damaged.
    """
    faults = [] if passed_over is None else passed_over
    for folder in reversed(steps(checkpoints)):
        fault = damage(folder)
        if not fault:
            return folder
        faults.append(f"{folder.name} is damaged ({fault}); the checkpoint before it is used")
    advice = f"remove {checkpoints.parent} and start the run again"
    raise InputError(f"expected a whole checkpoint in {checkpoints}, found {'; '.join(faults) or 'none'}; {advice}")


def other_shape(state: State, reader: FileSystemReader) -> str:
    """The first weight that a checkpoint has in another shape than `state`, in words; empty where all fit."""
    saved = reader.read_metadata().state_dict_metadata
    for part in ("model", "criterion"):
        for name, tensor in state.get(part, {}).items():
            shape = tuple(getattr(saved.get(f"{part}.{name}"), "size", ()))
            if shape != tuple(tensor.shape):
                return f"{name} of shape {shape} in place of {tuple(tensor.shape)}"
    return ""


def steps(folder: Path) -> list[Path]:
    """The checkpoints of a run that were completed, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def manifest(folder: Path) -> dict[str, list[int]]:
    """{file name: [size in bytes, CRC-32]} of every file in `folder`: against accidents, not against tampering."""
    files = sorted(file for file in folder.iterdir() if file.name != "manifest.json")
    return {file.name: [file.stat().st_size, checksum(file)] for file in files}


def checksum(file: Path) -> int:
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
    entries = expected.values() if isinstance(expected, dict) else [None]
    if not all(isinstance(entry, list) and len(entry) == 2 for entry in entries):
        return "manifest.json is no list of files"
    for name, (size, crc) in expected.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, not {size}"
        if checksum(file) != crc:
            return f"{name} has other bytes than were written"
    return ""


CRITERION, MODEL, AVERAGE = "criterion.", "model.", "average.module."
"""Where a checkpoint keeps the class centres with the head's state, the weights, and their moving average."""


def write_centres(run: Path, target: Path) -> tuple[int, ...]:
    """Writes `weight` (classes, dim), or (classes, K, dim), as trained, and the head's buffers; returns weight's shape.

    Whole, whatever number of processes trained it. Centres stand for the people of the training set: they are biometric
    data. InputError where the run has no whole checkpoint, or one that is not of the same step as model.safetensors.
    """
    folder = newest_whole(run / "checkpoint")
    centres = {name: tensor for name, tensor in read(folder, CRITERION).items() if name.startswith(("weight", "head."))}
    require_same_step(run / "model.safetensors", folder)
    with atomic_path(target) as temporary:
        save_file(centres, temporary)
    return tuple(centres["weight"].shape)


def read(folder: Path, beginning: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint whose names begin so, whole, by the rest of their names."""
    reader = FileSystemReader(folder)
    state = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in reader.read_metadata().state_dict_metadata.items()
        if name.startswith(beginning) and isinstance(entry, TensorStorageMetadata)
    }
    dcp_load(state, storage_reader=reader, no_dist=True)
    return {name.removeprefix(beginning): tensor for name, tensor in state.items()}


def require_same_step(weights: Path, folder: Path) -> None:
    """InputError unless the weights are those of the checkpoint: a run that was stopped within an epoch has gone on."""
    state, published = read(folder, AVERAGE) or read(folder, MODEL), load_file(weights)
    # the published matrices have the adapters merged
    trained = {name: one for name, one in state.items() if ".parametrizations." not in name}
    if any(name not in published or not torch.equal(published[name], one) for name, one in trained.items()):
        found = f"found those of {folder.name}, later in the run"
        advice = f"finish the epoch with `zoo train --resume {weights.parent}`"
        raise InputError(f"expected class centres of the same step as {weights}, {found}; {advice}")
