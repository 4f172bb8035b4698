"""Pictures decoded and aligned ahead of the model, by threads, in order and in bounded memory."""

from __future__ import annotations

import typing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from zoo.formats.images import Image


class Pictures(typing.Protocol):
    """What can be read in any order: a protocol, for one."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image | None:
        """One picture: RGB uint8 (H, W, 3); None where no face was found in it."""
        ...


def read_ahead(
    pictures: Pictures, workers: int = 2, ahead: int = 256, start: int = 0, stop: int | None = None
) -> Iterator[Image | None]:
    """The pictures from `start` to before `stop` in order, up to `ahead` of them ready before they are asked for.

    Threads are enough: OpenCV lets go of the interpreter while it decodes and warps, and what processes gain there
    they lose by handing the pictures over (`benchmarks/evaluate.py decode` measures both). An error of the picture
    comes when its turn does.
    """
    indices = range(start, len(pictures) if stop is None else stop)
    if workers < 1:
        yield from (pictures.image(index) for index in indices)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[Image | None]] = deque()
        try:
            for index in indices:
                waiting.append(pool.submit(pictures.image, index))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
