import sys
from collections.abc import Iterator

import pytest

from app.executors.threads import FairThreadPool
from app.system.gil import SHORT_S, ShortTurns


@pytest.fixture(autouse=True)
def usual() -> Iterator[float]:
    before = sys.getswitchinterval()
    yield before
    assert sys.getswitchinterval() == pytest.approx(before, rel=0.05)


def test_turns_are_short_while_anybody_wants_it(usual: float) -> None:
    one, two = ShortTurns(), ShortTurns()
    one.begin()
    two.begin()
    one.begin()
    one.end()

    assert sys.getswitchinterval() == pytest.approx(SHORT_S, rel=0.05)
    two.end()
    two.end()
    assert sys.getswitchinterval() == pytest.approx(usual, rel=0.05)


def test_the_shortest_that_anybody_wants_counts(usual: float) -> None:
    one, shorter = ShortTurns(), ShortTurns(SHORT_S / 5)
    one.begin()
    shorter.begin()
    assert sys.getswitchinterval() == pytest.approx(SHORT_S / 5, rel=0.05)
    shorter.end()
    assert sys.getswitchinterval() == pytest.approx(SHORT_S, rel=0.05)
    one.end()
    assert sys.getswitchinterval() == pytest.approx(usual, rel=0.05)


def test_a_wish_for_a_while_ends_at_the_first_check_after_it(usual: float) -> None:
    turns = ShortTurns()
    turns.extend(60)
    turns.check()
    assert sys.getswitchinterval() == pytest.approx(SHORT_S, rel=0.05)

    turns.extend(0)
    turns.check()
    assert sys.getswitchinterval() == pytest.approx(usual, rel=0.05)


def test_turns_that_are_shorter_already_stay_as_they_are(usual: float) -> None:
    turns = ShortTurns()
    sys.setswitchinterval(SHORT_S / 5)
    turns.begin()

    assert sys.getswitchinterval() == pytest.approx(SHORT_S / 5, rel=0.05)  # it is kept in whole microseconds
    turns.end()
    sys.setswitchinterval(usual)


async def test_a_pool_for_computing_wants_short_turns_while_it_has_work(usual: float) -> None:
    pool = FairThreadPool("compute", size=1, turns=ShortTurns())

    assert await pool.run(sys.getswitchinterval, key="s") == pytest.approx(SHORT_S, rel=0.05)
    assert sys.getswitchinterval() == pytest.approx(usual, rel=0.05)
    await pool.close()
