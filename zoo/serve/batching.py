"""One model session for all requests: what several ask for at the same moment goes through it as one batch."""

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import Crops

MOST_CROPS = 16  #: Crops that go through the model together


Waiting = tuple[Crops, "Future[npt.NDArray[np.float32]]"]  #: The crops of one call, and its embeddings or why not


class SharedEmbedder(OnnxEmbedder):
    """An OnnxEmbedder that threads share: one inference at a time, with the crops of every call that waits for it.

    A call that finds the session idle starts at once; nothing waits for a batch to fill. Whoever gets the session
    next computes for all that wait.
    """

    def __init__(self, path: str | Path, **options: Any) -> None:
        self._waiting: list[Waiting] = []
        self._turn = threading.Lock()
        super().__init__(path, **options)

    def __call__(self, crops: Crops) -> npt.NDArray[np.float32]:
        embeddings: Future[npt.NDArray[np.float32]] = Future()
        self._waiting.append((crops, embeddings))
        with self._turn:
            while not embeddings.done():
                self._compute(self._waiting)
        return embeddings.result()

    def _compute(self, waiting: list[Waiting]) -> None:
        """One inference for the calls that came first; appending by other threads meanwhile is safe."""
        taken = [waiting.pop(0)]
        while waiting and waiting[0][0].shape[1:] == taken[0][0].shape[1:]:
            if sum(len(crops) for crops, _ in [*taken, waiting[0]]) > MOST_CROPS:
                break
            taken.append(waiting.pop(0))
        try:
            found = super().__call__(np.concatenate([crops for crops, _ in taken]))
        except BaseException as error:  # each caller raises it
            for _, embeddings in taken:
                embeddings.set_exception(error)
            return
        at = 0
        for crops, embeddings in taken:
            embeddings.set_result(found[at : at + len(crops)])
            at += len(crops)
