"""Lists of sessions in every store: pages, filters, cursors."""

import asyncio

import pytest

from app.persistence.records import SessionFilter, SessionStatus
from app.persistence.store import CursorInvalid, Store
from tests.persistence.making import new, step, step_commit


async def test_pages_show_every_session_once_newest_first(store: Store) -> None:
    for number in range(23):
        await store.create_session(new(f"s{number}"))
    seen: list[str] = []
    cursor = None
    pages = 0
    while True:
        page = await store.list_sessions(SessionFilter(), 5, cursor)
        seen += [session.id for session in page.sessions]
        pages += 1
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"s{number}" for number in reversed(range(23))]
    assert pages == 5


async def test_a_full_last_page_has_no_next(store: Store) -> None:
    for number in range(4):
        await store.create_session(new(f"s{number}"))
    first = await store.list_sessions(SessionFilter(), 2, None)
    second = await store.list_sessions(SessionFilter(), 2, first.next_cursor)
    assert first.next_cursor is not None
    assert second.next_cursor is None
    assert [session.id for session in second.sessions] == ["s1", "s0"]


async def test_sessions_that_come_and_go_do_not_move_the_pages(store: Store) -> None:
    for number in range(6):
        await store.create_session(new(f"s{number}"))
    first = await store.list_sessions(SessionFilter(), 3, None)
    await store.create_session(new("later"))
    await store.delete_session("s3")  # the one the cursor stands at
    second = await store.list_sessions(SessionFilter(), 3, first.next_cursor)
    assert [session.id for session in second.sessions] == ["s2", "s1", "s0"]


async def test_an_empty_store_gives_an_empty_page(store: Store) -> None:
    page = await store.list_sessions(SessionFilter(), 10, None)
    assert (page.sessions, page.next_cursor) == ((), None)


async def test_filters_can_be_combined(store: Store) -> None:
    sessions = [
        new("a", machine="m1", partition_key="p1", metadata={"env": "prod", "team": "x"}),
        new("b", machine="m1", partition_key="p2", metadata={"env": "prod", "team": "y"}),
        new("c", machine="m2", partition_key="p1", metadata={"env": "test"}),
        new("d", machine="m2", metadata={"env": 5}, next_action=None),
        new("e", machine="m1", metadata={"prod": "env", "env\u00e9 '\"": "ü"}),
    ]
    await asyncio.gather(*map(store.create_session, sessions))
    await store.commit(step_commit("b", step(0), status=SessionStatus.FAILED))

    async def ids(**which: object) -> list[str]:
        page = await store.list_sessions(SessionFilter(**which), 10, None)  # type: ignore[arg-type]  # by name
        return sorted(session.id for session in page.sessions)

    assert await ids() == ["a", "b", "c", "d", "e"]
    assert await ids(machine="m1") == ["a", "b", "e"]
    assert await ids(partition_key="p1") == ["a", "c"]
    assert await ids(status=SessionStatus.FAILED) == ["b"]
    assert await ids(status=SessionStatus.ENDED) == ["d"]
    assert await ids(status=SessionStatus.IDLE) == ["a", "c", "e"]
    assert await ids(metadata={"env": "prod"}) == ["a", "b"]
    assert await ids(metadata={"env": "prod", "team": "x"}) == ["a"]
    assert await ids(metadata={"env": "5"}) == []
    assert await ids(metadata={"env\u00e9 '\"": "ü"}) == ["e"]
    assert await ids(machine="m1", partition_key="p2", status=SessionStatus.FAILED, metadata={"team": "y"}) == ["b"]
    assert await ids(machine="m2", metadata={"env": "prod"}) == []
    assert await ids(machine="a\0") == []
    assert await ids(metadata={"env": "\ud800"}) == []


async def test_filtered_lists_have_pages_too(store: Store) -> None:
    for number in range(9):
        await store.create_session(new(f"s{number}", machine=f"m{number % 2}", metadata={"third": str(number % 3)}))
    which = SessionFilter(machine="m0", metadata={"third": "0"})
    first = await store.list_sessions(which, 1, None)
    second = await store.list_sessions(which, 1, first.next_cursor)
    assert [session.id for page in (first, second) for session in page.sessions] == ["s6", "s0"]
    assert second.next_cursor is None


@pytest.mark.parametrize(
    "cursor", ["", "x", "WyJ4IiwxXQ", "é", "WzFd", "bnVsbA", "WyJzIiwtMV0", "WyJzIiwxLjVd", "WyJzIix0cnVlXQ", "\0"]
)
async def test_a_cursor_that_no_list_gave_out_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        await store.list_sessions(SessionFilter(), 5, cursor)
