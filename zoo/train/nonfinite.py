"""Steps whose loss or gradient is not finite: withheld on the device, reported when the log is written."""

import torch
from torch import nn

from zoo.data.base import FaceDataset
from zoo.errors import InputError


class NonfiniteSteps:
    """Withholds the update of a step whose loss or gradient is not finite, without making the host wait."""

    def __init__(self, tolerated: int, device: torch.device, bad_steps: int) -> None:
        """`bad_steps`: how many there were before a restart."""
        self.tolerated = tolerated
        self.bad_steps = torch.tensor(float(bad_steps), device=device)
        self.first_bad = torch.full((), -1, device=device)
        self.seen: dict[int, list[torch.Tensor]] = {}
        """The samples of the first bad step, and of the steps that were not judged yet, on the host."""

    def remember(self, *modules: nn.Module) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
        """The running statistics (batch norm's, the head's) and their values before a forward pass, by their types."""
        kept = [b for module in modules for b in module.buffers() if b.numel()]
        groups = [[b for b in kept if b.dtype == dtype] for dtype in {b.dtype for b in kept}]
        return [(group, joined(group)) for group in groups]

    def check(
        self, loss: torch.Tensor, norm: torch.Tensor, step: int, seen: list[torch.Tensor], overflow_is_normal: bool
    ) -> torch.Tensor:
        """Whether this step must be withheld, as a bool scalar on the device.

        With fp16's scaler, gradients overflow while it searches for its scale, and only a loss that is not finite
        counts as a bad step.
        """
        good_loss = torch.isfinite(loss.detach())
        good = good_loss & torch.isfinite(norm)
        bad = ~good_loss if overflow_is_normal else ~good
        self.first_bad = torch.where(bad & (self.first_bad < 0), step, self.first_bad)
        self.seen[step] = seen
        self.bad_steps += bad
        return ~good

    def put_back(self, statistics: list[tuple[list[torch.Tensor], torch.Tensor]], withhold: torch.Tensor) -> None:
        """Puts the running statistics back where the step was withheld."""
        for buffers, before in statistics:
            sizes = [buffer.numel() for buffer in buffers]
            right = torch.split(torch.where(withhold, before, joined(buffers)), sizes)
            torch._foreach_copy_(buffers, [part.view_as(buffer) for part, buffer in zip(right, buffers, strict=True)])

    def judge(self, dataset: FaceDataset) -> int:
        """How many steps were withheld so far; InputError naming the first where more were than are tolerated.

        This is the only place that waits for the device.
        """
        bad_steps, first_bad = int(self.bad_steps), int(self.first_bad)
        self.seen = {step: seen for step, seen in self.seen.items() if step == first_bad}
        if bad_steps > self.tolerated:
            first = "all before the run was resumed"
            if first_bad in self.seen:
                samples = ", ".join(map(str, torch.cat(self.seen[first_bad])[:8].tolist()))
                first = f"the first after step {first_bad} (samples {samples}, … of {dataset.name})"
            mends = "a lower --lr, --clip-norm or --precision bf16, or tolerate some with --skip-nonfinite"
            found = f"found {bad_steps} step(s) without, {first}; the update was withheld: --resume with {mends}"
            raise InputError(f"expected finite losses and gradients, {found}")
        return bad_steps


def joined(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Their elements in one row: an operation on each alone would cost a GPU a launch."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
