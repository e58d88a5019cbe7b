"""The collector stays out of the way while the service runs, and is as before afterwards."""

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from app.collector import seldom_collecting
from app.main import create_app
from app.sessions.loading import load_machines
from app.settings import Settings


class Knot:
    """An object that refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture
def python_thresholds() -> Iterator[None]:
    """The thresholds that Python starts with, whatever a library has set in this process."""
    found = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*found)


@pytest.mark.usefixtures("python_thresholds")
def test_what_exists_is_set_aside_and_comes_back() -> None:
    before = (gc.get_threshold(), gc.get_freeze_count())
    with seldom_collecting():
        assert gc.get_freeze_count() > before[1]
        assert gc.get_threshold() > before[0]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


@pytest.mark.usefixtures("python_thresholds")
def test_cycles_are_still_freed() -> None:
    with seldom_collecting():
        seen = weakref.ref(Knot())
        knots = [Knot() for _ in range(gc.get_threshold()[0] * 2)]
        assert seen() is None
        del knots


def watchdogs() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "stepwell-watchdog"}


async def test_the_long_collection_at_the_start_is_over_before_the_loop_is_watched() -> None:
    before = watchdogs()
    watched: list[bool] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start" and info["generation"] == 2:
            watched.append(bool(watchdogs() - before))

    app = create_app(Settings(database_url="memory://"), load_machines(["examples/counter.py"]))
    gc.callbacks.append(note)
    try:
        async with app.router.lifespan_context(app):
            assert watchdogs() - before
    finally:
        gc.callbacks.remove(note)
    assert watched
    assert not any(watched)
