"""Pictures decoded and aligned ahead of the model, by threads, in order and in bounded memory."""

from __future__ import annotations

import typing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


class Pictures(typing.Protocol):
    """What can be read in any order: a protocol, for one."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Picture:
        """One picture: RGB uint8 (H, W, 3)."""
        ...


def read_ahead(pictures: Pictures, workers: int = 2, ahead: int = 256) -> Iterator[Picture]:
    """The pictures in order, up to `ahead` of them ready before they are asked for.

    Threads are enough: OpenCV lets go of the interpreter while it decodes and warps. An error of the picture
    comes when its turn does.
    """
    if workers < 1:
        yield from (pictures.image(index) for index in range(len(pictures)))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[Picture]] = deque()
        try:
            for index in range(len(pictures)):
                waiting.append(pool.submit(pictures.image, index))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
