"""The class centres of a run as one safetensors file, read back from its newest checkpoint."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

from zoo.errors import InputError
from zoo.files import atomic_path
from zoo.train import checkpoint

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


def newest_whole(checkpoints: Path) -> Path:
    """The newest checkpoint that is as it was written; InputError where none is."""
    faults = []
    for folder in reversed(checkpoint.steps(checkpoints)):
        fault = checkpoint.damage(folder)
        if not fault:
            return folder
        faults.append(f"{folder.name} is damaged: {fault}")
    raise InputError(f"expected a whole checkpoint in {checkpoints}, found {'; '.join(faults) or 'none'}")


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
    trained = read(folder, AVERAGE) or read(folder, MODEL)
    with safe_open(weights, "pt") as published:
        same = set(published.keys()) == set(trained) and all(
            torch.equal(published.get_tensor(name), trained[name]) for name in trained
        )
    if not same:
        raise InputError(
            f"expected class centres of the same step as {weights}, found those of {folder.name}, later in the run;"
            f" finish the epoch with `zoo train --resume {weights.parent}`"
        )
