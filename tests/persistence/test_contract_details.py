"""What of a session is no state, changed together with a step, in every store."""

import asyncio
from collections.abc import Mapping

import pytest

from app.persistence.records import SessionDetails, SessionFilter
from app.persistence.store import StepConflict, Store, TextUnstorable
from tests.persistence.making import T0, new, step, step_commit


async def found(store: Store, **which: object) -> list[str]:
    page = await store.list_sessions(SessionFilter(**which), 100, None)  # type: ignore[arg-type]  # by name
    return [record.id for record in page.sessions]


async def change(store: Store, seq: int, metadata: Mapping[str, object], **details: object) -> None:
    made = SessionDetails(metadata, details.get("partition_key"), details.get("ttl_s"))  # type: ignore[arg-type]  # by name
    await store.commit(step_commit("s", step(seq), details=made))


async def test_the_details_are_those_of_the_last_change(store: Store) -> None:
    await store.create_session(new(metadata={"env": "test", "n": 1}, partition_key="p"))
    await store.create_session(new("other", metadata={"env": "test"}, partition_key="p"))
    await change(store, 0, {"env": "prod", "deep": {"a": [1]}}, partition_key="q", ttl_s=1e9)
    record = await store.get_session("s")
    assert (record.metadata, record.partition_key, record.ttl_s) == ({"env": "prod", "deep": {"a": [1]}}, "q", 1e9)
    assert (record.seq, record.expires_at_s) == (0, T0 + 0.5 + 1e9)
    await change(store, 1, {})
    record = await store.get_session("s")
    assert (record.metadata, record.partition_key, record.ttl_s, record.seq) == ({}, None, None, 1)


async def test_lists_follow_the_change(store: Store) -> None:
    await store.create_session(new(metadata={"env": "test", "owner": "ann"}, partition_key="p"))
    await store.create_session(new("other", metadata={"env": "test"}, partition_key="p"))
    await change(store, 0, {"env": "prod", "owner": "ann", "team": "x"}, partition_key="q")
    assert await found(store, metadata={"env": "test"}) == ["other"]
    assert await found(store, metadata={"env": "prod", "owner": "ann", "team": "x"}) == ["s"]
    assert await found(store, partition_key="p") == ["other"]
    assert await found(store, partition_key="q") == ["s"]
    await change(store, 1, {"n": 1})
    assert await found(store, metadata={"owner": "ann"}) == []
    assert await found(store, metadata={"env": "test"}) == ["other"]


async def test_a_step_that_is_refused_changes_no_details(store: Store) -> None:
    await store.create_session(new(metadata={"env": "test"}))
    with pytest.raises(StepConflict):
        await change(store, 5, {"env": "prod"})
    for details in (SessionDetails({"k": "a\0b"}, None, None), SessionDetails({}, "\ud800", None)):
        with pytest.raises(TextUnstorable):
            await store.commit(step_commit("s", step(0), details=details))
    assert await found(store, metadata={"env": "test"}) == ["s"]
    assert (await store.get_session("s")).metadata == {"env": "test"}


async def test_changes_that_wait_at_the_same_time_are_made_in_order(store: Store) -> None:
    await store.create_session(new())
    await store.create_session(new("other"))
    await asyncio.gather(
        *(change(store, seq, {"turn": f"{seq}"}) for seq in range(5)),
        *(store.commit(step_commit("other", step(seq))) for seq in range(5)),
    )
    assert (await store.get_session("s")).metadata == {"turn": "4"}
    assert await found(store, metadata={"turn": "4"}) == ["s"]
    assert await found(store, metadata={"turn": "3"}) == []
    assert (await store.get_session("other")).seq == 4
