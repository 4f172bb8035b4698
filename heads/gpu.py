"""Whether the Triton kernels can run on a device."""

import importlib.util

import torch

ON_ANY_DEVICE = False  #: Whether they run elsewhere than on a GPU too, by Triton's interpreter (TRITON_INTERPRET=1)


def runs_kernels(device: torch.device) -> bool:
    """Whether Triton is installed and `device` is a GPU that multiplies bfloat16."""
    if ON_ANY_DEVICE:
        return True
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    return importlib.util.find_spec("triton") is not None
