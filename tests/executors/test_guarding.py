"""A guarded loop goes on after what would end a script, until its main task is done."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from app.executors.guarding import guard_callbacks

LOOPS: list[Callable[[], Any]] = [asyncio.SelectorEventLoop, uvloop.new_event_loop]


def quit_all() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_loop_goes_on_after_callbacks_that_would_end_a_script(new_loop: Callable[[], Any]) -> None:
    called: list[int] = []

    async def main() -> str:
        loop = asyncio.get_running_loop()
        for number in range(3):
            loop.call_soon(quit_all)
            loop.call_soon(called.append, number)
        loop.call_later(0.001, quit_all)
        await asyncio.sleep(0.01)
        return "done"

    with asyncio.Runner(loop_factory=lambda: guard_callbacks(new_loop())) as runner:
        assert runner.run(main()) == "done"
    assert called == [0, 1, 2]


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_main_task_that_ends_the_script_ends_it(new_loop: Callable[[], Any]) -> None:
    async def main() -> None:
        raise SystemExit(3)

    with asyncio.Runner(loop_factory=lambda: guard_callbacks(new_loop())) as runner, pytest.raises(SystemExit):
        runner.run(main())
