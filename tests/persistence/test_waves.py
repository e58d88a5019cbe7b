"""How waiting calls become waves."""

import asyncio

from app.persistence.records import Commit, SessionStatus
from app.persistence.waves import Entry, SnapshotNote, assemble, deflate_large, entry_of_commit, entry_of_new
from tests.persistence.making import ended, new, started, step, step_commit


def promise() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def commit_entry(session_id: str, seq: int) -> Entry:
    return entry_of_commit(step_commit(session_id, step(seq)), promise())


async def test_steps_that_follow_one_another_are_one_move() -> None:
    wave, later = assemble([commit_entry("a", 3), commit_entry("b", 0), commit_entry("a", 4), commit_entry("a", 5)])
    assert later == []
    assert [(move[0], move[1], move[2]) for move in wave.moves.rows] == [("a", 2, 5), ("b", -1, 0)]
    assert [(place, row[0]) for place, row in zip(wave.steps.places, wave.steps.rows, strict=True)] == [
        (0, 3), (0, 4), (0, 5), (1, 0),
    ]  # fmt: skip


async def test_what_does_not_follow_waits_and_everything_of_its_session_after_it() -> None:
    entries = [commit_entry("a", 0), commit_entry("a", 2), commit_entry("a", 1), commit_entry("b", 0)]
    wave, later = assemble(entries)
    assert [group.session_id for group in wave.groups] == ["a", "b"]
    assert later == entries[1:3]


async def test_what_was_handed_in_under_another_claim_or_elsewhere_waits() -> None:
    claimed = [
        Commit("a", SessionStatus.IDLE, 5, run_start=started(), claim_no=1, after_seq=2),
        step_commit("a", step(3), claim_no=1),
        Commit("a", SessionStatus.IDLE, 50, run_end=ended(), claim_no=1, after_seq=3),
    ]
    for odd in (
        step_commit("a", step(4), claim_no=2),
        Commit("a", SessionStatus.IDLE, 51, run_end=ended("b"), after_seq=2, claim_no=1),
    ):
        entries = [entry_of_commit(commit, promise()) for commit in (*claimed, odd)]
        wave, later = assemble(entries)
        assert later == entries[3:]
        assert [(move[1], move[2], move[-1]) for move in wave.moves.rows] == [(2, 3, 1)]


async def test_a_new_session_is_alone_in_its_wave() -> None:
    entries = [entry_of_new(new("a"), promise()), commit_entry("a", 0), entry_of_new(new("a"), promise()), commit_entry("b", 0)]
    wave, later = assemble(entries)
    assert [entry.session_id for entry in wave.creates] == ["a"]
    assert [group.session_id for group in wave.groups] == ["b"]
    assert later == entries[1:3]


async def test_a_run_that_begins_and_ends_in_one_wave_is_one_row() -> None:
    commits = [
        Commit("a", SessionStatus.IDLE, 5, run_start=started("r", 5)),
        step_commit("a", step(0), run_id="r"),
        Commit("a", SessionStatus.IDLE, 50, run_end=ended("r", 50)),
        Commit("a", SessionStatus.IDLE, 51, run_end=ended("earlier", 51)),
    ]
    wave, later = assemble([entry_of_commit(commit, promise()) for commit in commits])
    whole, _ = assemble(
        [entry_of_commit(step_commit("a", step(0), run_start=started("r", 5), run_end=ended("r", 50)), promise())]
    )
    assert later == []
    assert wave.run_starts.rows == whole.run_starts.rows
    assert [row[0] for row in wave.run_ends.rows] == ["earlier"]


async def test_a_snapshot_goes_with_the_next_step_of_its_session() -> None:
    note = Entry("a", SnapshotNote(key=7, seq=9, state=b"state", covered_bytes=5000, snapshot_at=6000))
    wave, _ = assemble([note, commit_entry("a", 10)])
    assert len(wave.moves.rows) == 1
    _, expected, seq, *_, log_bytes, snapshot_seq, snapshot_at, key, _ = wave.moves.rows[0]
    assert (expected, seq, snapshot_seq, snapshot_at, key) == (9, 10, 9, 6000, 7)
    assert -5000 < log_bytes < -4800
    assert wave.snapshots.rows == [(9, b"state")]


async def test_large_values_are_left_for_a_thread_to_deflate() -> None:
    large = {"text": "words " * 50_000}
    entry = entry_of_commit(step_commit("a", step(0, result=large)), promise())
    created = entry_of_new(new("b", state=large), promise())
    for waiting in (entry, created):
        assert waiting.is_large
        assert waiting.main is not None
        before = len(waiting.main[-1])
        deflate_large(waiting)
        assert not waiting.is_large
        assert len(waiting.main[-1]) < before / 50


async def test_no_repr_shows_values() -> None:
    entry = entry_of_commit(step_commit("a", step(0, result={"token": "hunter2"})), promise())
    wave, _ = assemble([entry])
    assert "hunter2" not in f"{entry!r} {wave!r} {wave.groups[0]!r} {wave.steps!r}"
