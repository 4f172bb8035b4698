"""Label noise by sub-centres: which of a class's centres is its own, and which images are far from it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import InputError


@dataclass(frozen=True)
class SubCentres:
    """What the sub-centres of each class say of its images.

    Deng et al., Sub-center ArcFace, ECCV 2020: trained with a few sub-centres per class, the clean images of a person
    gather at one of them, the dominant one. Images far from it are dropped, and training goes on with one centre.
    """

    dominant: Tensor  #: (classes,) int64: the sub-centre that is the nearest one to most images of its class
    share: Tensor  #: (classes,): the fraction of the class's images whose nearest sub-centre it is; 0 without images
    nearest: Tensor  #: (images,) int64: each image's nearest sub-centre of its own class
    angle: Tensor  #: (images,): radians from each image to the dominant sub-centre of its class
    centres: Tensor  #: (classes, dim): the dominant sub-centres, as the weight of a loss with one centre per class

    def outliers(self, degrees: float = 75.0) -> Tensor:
        """The images beyond an angle from their dominant sub-centre, ascending; 75 degrees are the paper's."""
        if not 0 < degrees < 180:
            raise InputError(f"expected an angle between 0 and 180 degrees, found {degrees}; 75 is usual")
        return (self.angle > math.radians(degrees)).nonzero().squeeze(1)


@torch.no_grad()
def find_sub_centres(weight: Tensor, embeddings: Tensor, labels: Tensor) -> SubCentres:
    """Compares images with the sub-centres of their own classes.

    weight (classes, K, dim), or (classes, dim) for K = 1, as in `MarginSoftmaxLoss.weight`; embeddings (images, dim) of
    any norm; labels (images,) int64. Of two sub-centres with equally many images the first is dominant.
    """
    centres = weight.detach() if weight.ndim == 3 else weight.detach()[:, None]
    if embeddings.ndim != 2 or embeddings.shape[1] != centres.shape[2] or labels.shape != embeddings.shape[:1]:
        found = f"found {tuple(embeddings.shape)} and {tuple(labels.shape)}"
        advice = "give those of the model that the centres were trained with"
        raise InputError(f"expected embeddings (images, {centres.shape[2]}) and a label for each, {found}; {advice}")
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < len(centres)):
        raise InputError(f"expected labels from 0 to {len(centres) - 1}, found {int(labels.min())} to {labels.max()}")
    unit, directions = F.normalize(embeddings.to(centres.dtype)), F.normalize(centres, dim=2)
    nearest, cosine = torch.empty_like(labels), unit.new_empty(len(labels))
    parts = torch.split(torch.arange(len(labels), device=labels.device), 4096)  # (4096, K, dim) at a time
    for part in parts:
        nearest[part] = torch.einsum("bd,bkd->bk", unit[part], directions[labels[part]]).argmax(1)
    counts = torch.zeros(centres.shape[:2], dtype=torch.int64, device=labels.device)
    counts.index_put_((labels, nearest), torch.ones_like(labels), accumulate=True)
    most, dominant = counts.max(1)
    for part in parts:
        cosine[part] = (unit[part] * directions[labels[part], dominant[labels[part]]]).sum(1)
    rows = torch.arange(len(centres), device=labels.device)
    share = most / counts.sum(1).clamp_min(1)
    return SubCentres(dominant, share, nearest, cosine.clamp(-1, 1).acos(), centres[rows, dominant])
