"""Training: the options, the loop, its checkpoints and the run folders they live in. Importing this loads no torch."""

from zoo.train.config import TrainConfig
from zoo.train.start import Trained, resume, train

__all__ = ["TrainConfig", "Trained", "resume", "train"]
