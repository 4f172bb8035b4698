"""Working ahead: order, bounds, errors at their turn, and nothing left running."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from zoo.errors import InputError
from zoo.formats.read_ahead import map_ahead, read_ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 7, 100])
def test_results_come_in_the_order_of_the_items_whichever_is_ready_first(workers: int, ahead: int) -> None:
    last = threading.Event()

    def slow_start(number: int) -> int:
        if number == 0 and workers > 1 and ahead > 1:
            last.wait(5)  # a later item ends first
        last.set()
        return number * number

    assert list(map_ahead(slow_start, range(23), workers, ahead)) == [n * n for n in range(23)]


def test_no_more_items_than_allowed_are_drawn_before_they_are_asked_for() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    results = map_ahead(lambda number: number, items(), workers=2, ahead=5)
    assert not drawn
    for expected in range(7):
        assert next(results) == expected
        assert len(drawn) == expected + 5


def test_an_error_is_raised_at_its_turn_and_stops_the_rest() -> None:
    begun: list[int] = []

    def fails(number: int) -> int:
        begun.append(number)
        if number == 40:
            raise InputError("picture 40 is damaged")
        return number

    seen = []
    with pytest.raises(InputError, match="picture 40"):
        for number in map_ahead(fails, range(1000), workers=3, ahead=7):
            seen.append(number)
    assert seen == list(range(40)) and max(begun) < 48


def test_a_reader_that_stops_early_leaves_nothing_running() -> None:
    running = threading.active_count()
    results = map_ahead(lambda number: number, range(1000), workers=3, ahead=50)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == running


def test_a_given_pool_computes_and_stays_open() -> None:
    with ThreadPoolExecutor(1) as threads:
        assert list(map_ahead(str, range(9), pool=threads, ahead=3)) == [str(n) for n in range(9)]
        assert threads.submit(int, "7").result() == 7
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert list(map_ahead(abs, range(-4, 0), pool=processes, ahead=2)) == [4, 3, 2, 1]


def test_pictures_are_read_from_start_to_before_stop() -> None:
    class Pictures:
        def __len__(self) -> int:
            return 50

        def image(self, index: int) -> npt.NDArray[np.uint8]:
            return np.full((2, 2, 3), index, np.uint8)

    def read(**options: int) -> list[int]:
        return [int(picture[0, 0, 0]) for picture in read_ahead(Pictures(), **options) if picture is not None]

    assert read() == list(range(50))
    assert read(start=3, stop=17, workers=0) == list(range(3, 17))
