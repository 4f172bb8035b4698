"""Whether the Triton kernels can run on a device."""

import importlib.util

import torch

ON_ANY_DEVICE = False  #: Whether they run elsewhere than on a GPU too, by Triton's interpreter (TRITON_INTERPRET=1)


def runs_kernels(device: torch.device) -> bool:
    """Whether Triton is installed and `device` is a GPU that multiplies bfloat16."""
    card = device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) >= (8, 0)
    return ON_ANY_DEVICE or (card and importlib.util.find_spec("triton") is not None)
