"""Requests are computed a few at a time, wait in a bounded queue, and are refused beyond it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from zoo.serve.guard import Gate
from zoo.serve.problems import Problem
from zoo.serve.settings import Limits


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again() -> None:
    async def crowd() -> tuple[list[object], int, int]:
        gate, go = Gate(Limits(concurrent=2, queue=3)), threading.Event()
        most = 0

        def work() -> str:
            nonlocal most
            most = max(most, gate.running)
            go.wait(10)
            return "done"

        tasks = [asyncio.create_task(gate.run(work)) for _ in range(9)]
        await asyncio.sleep(0.05)
        refused = sum(task.done() for task in tasks)
        go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert (gate.waiting, gate.running) == (0, 0)
        gate.close()
        return list(found), refused, most

    found, refused, most = asyncio.run(crowd())
    problems = [one for one in found if isinstance(one, Problem)]
    assert found.count("done") == 5 and len(problems) == refused == 4 and most == 2
    assert all(one.status == 503 and int(one.headers["Retry-After"]) >= 1 for one in problems)


def test_waiting_and_computing_end_at_the_time_limit_and_a_slot_is_never_lost() -> None:
    async def slow() -> None:
        gate, go = Gate(Limits(concurrent=1, queue=5, max_seconds=0.05)), threading.Event()
        found = await asyncio.gather(*(gate.run(lambda: go.wait(10)) for _ in range(2)), return_exceptions=True)
        assert [getattr(one, "status", 0) for one in found] == [503, 503]
        assert gate.running == 1, "a thread cannot be stopped: it keeps its slot"
        go.set()
        for _ in range(200):
            if not gate.running:
                break
            await asyncio.sleep(0.01)
        assert await gate.run(lambda: "next") == "next"
        gate.close()

    asyncio.run(slow())


def test_an_error_of_the_work_reaches_the_caller_and_frees_the_slot() -> None:
    async def failing() -> None:
        gate = Gate(Limits(concurrent=1, queue=0))
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await gate.run(lambda: 1 // 0)
            await asyncio.sleep(0.01)
        assert await gate.run(lambda: "next") == "next"

    asyncio.run(failing())
