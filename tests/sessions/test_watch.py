"""When a replica may say of another one that it is dead."""

import pytest

from app.sessions.watch import Watch


@pytest.fixture
def watch() -> Watch:
    """Of a replica that has just joined, at 100."""
    watch = Watch(beat_s=1.0, dead_after_s=4.0)
    watch.was_heard(100.0)
    return watch


def beats(watch: Watch, first: int, last: int) -> None:
    for at_s in range(first, last + 1):
        watch.was_heard(float(at_s))


def test_one_that_has_just_joined_waits_for_as_long_as_it_takes_to_die(watch: Watch) -> None:
    beats(watch, 101, 104)
    assert [watch.may_bury(at_s) for at_s in (104.0, 104.1)] == [False, True]


def test_one_that_was_cut_off_from_the_database_waits_again(watch: Watch) -> None:
    beats(watch, 101, 110)
    watch.was_refused()
    assert not watch.may_bury(110.5)
    beats(watch, 112, 116)
    assert [watch.may_bury(at_s) for at_s in (116.0, 116.1)] == [False, True]


def test_one_that_was_held_up_itself_waits_for_two_beats_of_the_others(watch: Watch) -> None:
    beats(watch, 101, 110)
    watch.was_heard(113.0)
    assert [watch.may_bury(at_s) for at_s in (114.0, 115.0, 115.1)] == [False, False, True]


def test_one_that_was_held_up_just_after_it_joined_does_not_wait_twice(watch: Watch) -> None:
    watch.was_heard(103.0)
    beats(watch, 104, 105)
    assert [watch.may_bury(at_s) for at_s in (105.0, 105.1)] == [False, True]


def test_a_beat_that_comes_a_little_late_changes_nothing(watch: Watch) -> None:
    beats(watch, 101, 110)
    watch.was_heard(112.0)
    assert watch.may_bury(112.0)
