from hypothesis import given
from hypothesis import strategies as st

from app.executors.fair_queue import FairQueue


def filled(*pairs: tuple[str, int]) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue()
    for key, item in pairs:
        queue.put(key, item)
    return queue


def drained(queue: FairQueue[int]) -> list[int]:
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item)
    return taken


def test_keys_are_served_in_turn() -> None:
    queue = filled(*(("many", n) for n in range(1, 6)), ("one", 100), ("two", 200), ("two", 201))

    assert drained(queue) == [1, 100, 200, 2, 201, 3, 4, 5]


def test_an_item_can_be_taken_out_once() -> None:
    queue = filled(("a", 1), ("a", 2), ("b", 3))

    assert queue.discard("a", 1)
    assert not queue.discard("a", 1)
    assert not queue.discard("c", 1)
    assert len(queue) == 2
    assert drained(queue) == [2, 3]


def test_clearing_returns_what_waited() -> None:
    queue = filled(("a", 1), ("b", 2))

    assert sorted(queue.clear()) == [1, 2]
    assert (len(queue), queue.take()) == (0, None)


@given(st.lists(st.sampled_from("abcd"), max_size=60))
def test_no_key_waits_for_more_than_one_item_of_each_other_key(keys: list[str]) -> None:
    queue = filled(*((key, n) for n, key in enumerate(keys)))
    order = [keys[n] for n in drained(queue)]

    assert sorted(order) == sorted(keys)
    for key in set(keys):
        places = [place for place, served in enumerate(order) if served == key]
        for before, after in zip([-1, *places], places, strict=False):
            between = order[before + 1 : after]
            assert len(between) == len(set(between))
