"""One model session for all requests: what several ask for at the same moment goes through it as one batch."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import Crops

MOST_CROPS = 16
"""Crops that go through the model together."""


@dataclass
class Ticket:
    """The crops of one call, and its embeddings or the reason why there are none."""

    crops: Crops
    embeddings: npt.NDArray[np.float32] | None = None
    error: BaseException | None = None


class SharedEmbedder(OnnxEmbedder):
    """An OnnxEmbedder that threads share: one inference at a time, with the crops of every call that waits for it.

    A call that finds the session idle starts at once; nothing waits for a batch to fill. Whoever gets the session
    next computes for all that wait.
    """

    def __init__(self, path: str | Path, **options: Any) -> None:
        self._waiting: list[Ticket] = []
        self._turn = threading.Lock()
        super().__init__(path, **options)

    def __call__(self, crops: Crops) -> npt.NDArray[np.float32]:
        ticket = Ticket(crops)
        self._waiting.append(ticket)
        with self._turn:
            while ticket.embeddings is None and ticket.error is None:
                self._compute(self._waiting)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.embeddings is not None
        return ticket.embeddings

    def _compute(self, waiting: list[Ticket]) -> None:
        """One inference for the tickets that came first; appending by other threads meanwhile is safe."""
        taken = [waiting.pop(0)]
        while waiting and waiting[0].crops.shape[1:] == taken[0].crops.shape[1:]:
            if sum(len(ticket.crops) for ticket in [*taken, waiting[0]]) > MOST_CROPS:
                break
            taken.append(waiting.pop(0))
        try:
            found = super().__call__(np.concatenate([ticket.crops for ticket in taken]))
        except BaseException as error:  # each caller raises it
            for ticket in taken:
                ticket.error = error
            return
        at = 0
        for ticket in taken:
            ticket.embeddings = found[at : at + len(ticket.crops)]
            at += len(ticket.crops)
