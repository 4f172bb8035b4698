"""Admission: a fixed number of requests are computed at once, a bounded number wait, and more are refused."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from zoo.serve.problems import busy
from zoo.serve.settings import Limits

T = TypeVar("T")


class Gate:
    """Runs work in `limits.concurrent` threads; `limits.queue` more may wait, each at most `limits.max_seconds`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting = 0
        self.running = 0
        self.mean_seconds = 0.1  #: The moving average of what one piece of work takes
        self._pool = ThreadPoolExecutor(limits.concurrent, "compute")
        self._slots = asyncio.Semaphore(limits.concurrent)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`; 503 where the queue is full, and where waiting or computing takes too long.

        Work that takes too long keeps its slot until it ends: a thread cannot be stopped, and the limits on bytes,
        pixels and faces bound what it does.
        """
        limits = self.limits
        if self.waiting + self.running >= limits.concurrent + limits.queue:
            raise busy(self.expected_wait, f"{self.waiting} requests are waiting already; try again later")
        self.waiting += 1
        try:
            await asyncio.wait_for(self._slots.acquire(), limits.max_seconds)
        except TimeoutError:
            why = f"no turn came within {limits.max_seconds:g} seconds; try again later"
            raise busy(self.expected_wait, why) from None
        finally:
            self.waiting -= 1
        self.running += 1
        loop, started = asyncio.get_running_loop(), time.monotonic()
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._done, started))
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), limits.max_seconds)
        except TimeoutError:
            if future.done():  # the work itself ran into a time limit
                raise
            why = f"no answer was ready within {limits.max_seconds:g} seconds; send a smaller picture"
            raise busy(self.expected_wait, why) from None

    @property
    def expected_wait(self) -> float:
        """Seconds until whoever comes now would have a turn."""
        return (self.waiting + 1) * self.mean_seconds / self.limits.concurrent

    def close(self) -> None:
        """Waits for what is being computed."""
        self._pool.shutdown(wait=True)

    def _done(self, started: float) -> None:
        self.running -= 1
        self.mean_seconds += 0.1 * (time.monotonic() - started - self.mean_seconds)
        self._slots.release()
