"""Work done ahead of whoever waits for it: by threads or processes, in order and in bounded memory."""

import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from zoo.formats.images import Image

T = typing.TypeVar("T")
R = typing.TypeVar("R")


@typing.runtime_checkable
class Pictures(typing.Protocol):
    """What can be read in any order: a protocol, for one."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image | None:
        """One picture: RGB uint8 (H, W, 3); None where no face was found in it."""


def map_ahead(
    function: Callable[[T], R], items: Iterable[T], workers: int = 2, ahead: int = 256, pool: Executor | None = None
) -> Iterator[R]:
    """`function` of each item in order, up to `ahead` of them begun before they are asked for.

    `workers` threads compute; with 0 each result is computed when it is asked for. `pool` is an executor to use
    instead, which stays open; `items` are drawn in this process, one whenever a result is taken. An exception is raised
    when the turn of its item comes. After it, or when the caller stops early, what has not begun is cancelled.
    """
    if pool is None:
        if workers < 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as threads:
            yield from map_ahead(function, items, ahead=ahead, pool=threads)
        return
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def read_ahead(
    pictures: Pictures, workers: int = 2, ahead: int = 256, start: int = 0, stop: int | None = None
) -> Iterator[Image | None]:
    """The pictures from `start` to before `stop` in order, decoded and aligned ahead of the model by `map_ahead`.

    Threads are enough, as OpenCV releases the interpreter (`benchmarks/evaluate.py decode` measures processes too).
    """
    return map_ahead(pictures.image, range(start, len(pictures) if stop is None else stop), workers, ahead)
