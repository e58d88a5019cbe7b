"""A state is made again from a snapshot and the steps after it."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.difference import difference, refine
from app.engine.edits import Grow, Put, Remove, Splice
from app.engine.operations import Append, Delete, Extend, Increment, Patch, Set, StoredOperation, apply_all
from app.persistence.codec import PayloadInvalid, deflate, encode_payload, encode_state
from app.persistence.replaying import replay
from tests.engine.changing import exact, pairs_of_values

_KEYS = st.sampled_from(["a", "$", "odd \ud800"])
_OPERATIONS: st.SearchStrategy[StoredOperation] = st.one_of(
    st.builds(Set, _KEYS, st.lists(st.integers(), max_size=2)),
    st.builds(Append, _KEYS, st.integers()),
    st.builds(Extend, _KEYS, st.lists(st.integers(), max_size=3).map(tuple)),
    st.builds(Delete, _KEYS),
    st.builds(Increment, st.just("n"), st.integers(-5, 2**64)),
)


@given(st.dictionaries(_KEYS, st.lists(st.integers(), max_size=2), max_size=2), st.lists(_OPERATIONS, max_size=20))
def test_replay_is_applying_one_after_another(state: dict[str, list[int]], operations: list[StoredOperation]) -> None:
    payloads = [deflate(encode_payload((operation,), None)) for operation in operations]
    assert repr(replay(encode_state(state), payloads).state) == repr(apply_all(state, tuple(operations)))


@pytest.mark.parametrize(
    "operation",
    [
        Append("text", 1),
        Patch("gone", (Grow((), "x"),)),
        Patch("text", (Splice((), 0, 0, (1,)),)),
        Patch("list", (Splice((), 4, 0, (1,)),)),
        Patch("list", (Put((9,), 1),)),
        Patch("dict", (Put(("no", "way"), 1),)),
        Patch("dict", (Remove(("no",)),)),
        Patch("dict", (Splice(("x",), 0, 0, ()),)),
    ],
    ids=repr,
)
def test_an_operation_that_does_not_fit_is_an_error_without_values(operation: StoredOperation) -> None:
    state = encode_state({"text": "secret", "list": [1, 2, 3], "dict": {"x": 1}})
    with pytest.raises(PayloadInvalid) as caught:
        replay(state, [encode_payload((operation,), None)])
    assert "secret" not in str(caught.value)


@given(pairs_of_values())
def test_what_has_changed_is_replayed_exactly_and_takes_no_more_room_than_the_whole(pair: tuple[Any, Any]) -> None:
    old, new = pair
    whole = Set("k", new)
    changed = encode_payload(refine({"k": old}, (whole,), {"k": new}), None)
    assert len(changed) <= len(encode_payload((whole,), None)) + 8
    assert exact(replay(encode_state({"k": old}), [changed]).state) == exact({"k": new})


@given(st.lists(pairs_of_values(), min_size=1, max_size=5))
def test_many_changes_in_a_row_are_replayed_exactly(pairs: list[tuple[Any, Any]]) -> None:
    states = [{"k": value} for pair in pairs for value in pair]
    payloads = [encode_payload(difference(before, after), None) for before, after in pairwise(states)]
    assert exact(replay(encode_state(states[0]), payloads).state) == exact(states[-1])
