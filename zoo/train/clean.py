"""A training set without the images that a run's own class centres call wrongly labelled."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.backbones.timm_folder import TorchFolder
from zoo.data.base import EncodedFaces, Selected
from zoo.data.pack import pack_records
from zoo.errors import InputError
from zoo.files import atomic_path, write_text
from zoo.heads import find_sub_centres
from zoo.inference.embed import embed
from zoo.messages import Bar, no_bar
from zoo.train.checkpoint import CRITERION, newest_whole, read, require_same_step
from zoo.train.config import load_config
from zoo.train.people import open_training


@dataclass(frozen=True)
class Cleaned:
    images: int  #: Images that were kept
    identities: int
    removed: int  #: Images beyond the angle, listed in removed.csv
    lost: int  #: Identities none of whose images was kept
    sub_centres: int  #: Centres per class of the run


def clean(
    run: str | Path, out: str | Path, *, degrees: float = 75.0, device: str = "auto", bar: Bar = no_bar
) -> Cleaned:
    """Writes the training set of `run` without the images beyond `degrees` from their dominant sub-centre.

    `out` becomes a RecordIO set, with `removed.csv` (image, place, label, sub_centre, degrees) and with the dominant
    centres of the people who are left as `centres.safetensors`: `weight` (classes, dim), to go on with one centre per
    class. InputError where the run has no whole checkpoint or its training set is not there, and when `out` exists.
    """
    run = Path(run)
    config = load_config(run / "config.yaml")
    model = TorchFolder(run, device)
    dataset, _ = open_training(config, model.input.size)
    if not isinstance(dataset, EncodedFaces):
        raise InputError(f"expected a run on pictures of a set, found one on {config.data}; its labels are right")
    folder = newest_whole(run / "checkpoint")
    require_same_step(run / "model.safetensors", folder)
    weight, labels = read(folder, CRITERION)["weight"], torch.from_numpy(dataset.labels)
    with bar("embedding", len(dataset)) as progress:
        embeddings = torch.from_numpy(embed(model, dataset, progress=progress, dim=model.embedding_dim))
    found = find_sub_centres(weight, embeddings, labels)
    removed = found.outliers(degrees)
    kept = np.setdiff1d(np.arange(len(dataset)), removed.numpy())
    if len(kept) == 0:
        raise InputError(f"expected some images within {degrees} degrees of their centres, found none; train longer")
    left = Selected(dataset, kept)
    written = pack_records(left, out, bar=bar)
    people = torch.from_numpy(np.unique(dataset.labels[kept]))
    with atomic_path(Path(out) / "centres.safetensors") as temporary:
        save_file({"weight": found.centres[people].contiguous()}, temporary)
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(("image", "place", "label", "sub_centre", "degrees"))
    for i in removed.tolist():
        angle = f"{math.degrees(float(found.angle[i])):.1f}"
        rows.writerow((i, dataset.where(i), int(labels[i]), int(found.nearest[i]), angle))
    write_text(Path(out) / "removed.csv", table.getvalue())
    sub_centres = weight.shape[1] if weight.ndim == 3 else 1
    return Cleaned(written.images, written.identities, len(removed), len(weight) - len(people), sub_centres)
