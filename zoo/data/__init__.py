"""Training sets behind one protocol, their augmentation and the loader. Importing this costs numpy and cv2 only."""

from zoo.data.base import FaceDataset as FaceDataset
from zoo.data.open import open_dataset as open_dataset
