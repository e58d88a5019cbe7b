"""The collector stays out of the way while the service runs, and is as before afterwards."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from app.collector import seldom_collecting


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
