"""Training sets behind one protocol, augmentation, the loader. Importing this loads no torch."""

from zoo.data.base import FaceDataset
from zoo.data.open import open_dataset

__all__ = ["FaceDataset", "open_dataset"]
