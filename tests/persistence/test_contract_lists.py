"""Lists of sessions in every store: pages, filters, cursors."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product

import pytest

from app.persistence.records import Commit, SessionFilter, SessionStatus
from app.persistence.store import CursorInvalid, Store
from tests.persistence.making import ended, new, opened, short_walks, started, step, step_commit


async def paged(store: Store, which: SessionFilter, limit: int) -> AsyncIterator[list[str]]:
    """The ids of page after page."""
    page = await store.list_sessions(which, limit, None)
    yield [session.id for session in page.sessions]
    while page.next_cursor is not None:
        page = await store.list_sessions(which, limit, page.next_cursor)
        yield [session.id for session in page.sessions]


async def test_pages_show_every_session_once_newest_first(store: Store) -> None:
    for number in range(23):
        await store.create_session(new(f"s{number}"))
    pages = [page async for page in paged(store, SessionFilter(), 5)]
    assert [name for page in pages for name in page] == [f"s{number}" for number in reversed(range(23))]
    assert [len(page) for page in pages] == [5, 5, 5, 5, 3]


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


async def test_pages_that_end_before_they_are_full_leave_nothing_out(store: Store) -> None:
    """A page looks at so many sessions, and no further: here at five, of which few or none are what is asked for."""
    kinds = {number: ("old" if number < 8 else "new", str(number % 2)) for number in range(30)}
    for number, (machine, half) in kinds.items():
        await store.create_session(new(f"s{number}", machine=machine, metadata={"half": half, "all": "x"}))
    with short_walks(walked=5, reach=3):
        for machine, half, everything in product((None, "old", "new"), (None, "0", "1"), (None, "x", "y")):
            asked = {name: value for name, value in (("half", half), ("all", everything)) if value is not None}
            pages = [page async for page in paged(store, SessionFilter(machine=machine, metadata=asked), 2)]
            wanted = [
                f"s{number}"
                for number in reversed(kinds)
                if machine in (None, kinds[number][0]) and half in (None, kinds[number][1]) and everything in (None, "x")
            ]
            assert [name for page in pages for name in page] == wanted
            assert max(map(len, pages)) <= 2


async def test_a_page_that_finds_nothing_ends_all_the_same(database_url: str) -> None:
    async with opened(database_url) as store:
        for number in range(12):
            await store.create_session(
                new(f"s{number}", machine="old" if number < 6 else "new", metadata={"age": f"{number // 6}"})
            )
        with short_walks(walked=4, reach=3):
            which = SessionFilter(machine="old", metadata={"age": "1"})
            assert [page async for page in paged(store, which, 10)] == [[], []]


async def test_sessions_that_have_expired_are_passed_over(store: Store) -> None:
    await store.create_session(new("first"))
    for number in range(10):
        await store.create_session(new(f"s{number}", ttl_s=1.0))
    await store.create_session(new("last"))
    with short_walks(walked=4, reach=3):
        for which in (
            SessionFilter(),
            SessionFilter(machine="counter"),
            SessionFilter(machine="counter", status=SessionStatus.IDLE),
        ):
            assert [name async for page in paged(store, which, 2) for name in page] == ["last", "first"]


async def test_sessions_with_a_run_under_way_are_those_that_run(store: Store) -> None:
    for number in range(4):
        await store.create_session(new(f"s{number}", machine=f"m{number % 2}"))
    for number in (0, 1, 3):
        await store.commit(Commit(f"s{number}", SessionStatus.IDLE, 5, run_start=started(f"r{number}")))
    await store.commit(Commit("s1", SessionStatus.IDLE, 50, run_end=ended("r1"), run_id="r1"))
    await store.queue_run("s2", started("waits"))
    running = SessionFilter(status=SessionStatus.RUNNING)
    assert [page async for page in paged(store, running, 1)] == [["s3"], ["s0"]]
    assert [page async for page in paged(store, replace(running, machine="m1"), 5)] == [["s3"]]


@pytest.mark.parametrize(
    "cursor", ["", "x", "WyJ4IiwxXQ", "é", "WzFd", "bnVsbA", "WyJzIiwtMV0", "WyJzIiwxLjVd", "WyJzIix0cnVlXQ", "\0"]
)
async def test_a_cursor_that_no_list_gave_out_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        await store.list_sessions(SessionFilter(), 5, cursor)
