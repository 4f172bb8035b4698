"""Training sets behind one protocol, augmentation, the loader. Importing this costs numpy, cv2 and simplejpeg."""

from zoo.data.base import FaceDataset as FaceDataset
from zoo.data.open import open_dataset as open_dataset
