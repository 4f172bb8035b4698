"""zoo: a face-recognition model zoo as a timm plugin."""

__version__ = "0.1.0"
