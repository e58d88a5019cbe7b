"""With a million sessions a list must not look at all of them: it walks one index, which is in its order, for a while."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.persistence.codec import encode_payload, pack
from app.persistence.cursors import encode_cursor
from app.persistence.ended_runs import run_document
from app.persistence.engines import postgres_engine, sqlite_reader
from app.persistence.migrating import upgrade
from app.persistence.postgres_replicas import PostgresReplicas
from app.persistence.postgres_writer import PostgresWriter
from app.persistence.reader import Reader
from app.persistence.records import SessionFilter, SessionStatus
from app.persistence.tables import labels, runs, sessions, steps
from app.persistence.urls import Postgres, Sqlite, parse
from app.persistence.wave_rows import STEP_COLUMNS, label_of, step_row
from tests.persistence.making import T0, ended, on_database, short_walks, started, step

SESSIONS = 6_000
STEPS = 3_000
OLD = SESSIONS // 2  # up to here they are of a machine, a partition and so on that no later one has

FILTERS = {
    "all": SessionFilter(),
    "machine": SessionFilter(machine="old"),
    "partition": SessionFilter(partition_key="old"),
    "status": SessionFilter(status=SessionStatus.ENDED),
    "running": SessionFilter(status=SessionStatus.RUNNING),
    "label": SessionFilter(metadata={"env": "old"}),
    "two labels": SessionFilter(metadata={"env": "old", "user": "7"}),
    "machine, label": SessionFilter(machine="old", metadata={"user": "7"}),
    "machine, partition": SessionFilter(machine="old", partition_key="rare"),
    "machine, status": SessionFilter(machine="old", status=SessionStatus.FAILED),
    "machine, running": SessionFilter(machine="old", status=SessionStatus.RUNNING),
    "everything": SessionFilter("old", SessionStatus.ENDED, "old", {"env": "old", "user": "7"}),
}
BY_MACHINE, BY_PARTITION, BY_STATUS = "ix_sessions_machine_key", "ix_sessions_partition_key_key", "ix_sessions_status_key"
BY_LABEL, RUNNING = "pk_labels", "ix_runs_running"
# which index is walked for a page: that of the condition that the fewest sessions meet
WALKED = {
    "all": "pk_sessions",
    "machine": BY_MACHINE,
    "partition": BY_PARTITION,
    "status": BY_STATUS,
    "running": RUNNING,
    "label": BY_LABEL,
    "two labels": BY_LABEL,
    "machine, label": BY_LABEL,
    "machine, partition": BY_PARTITION,
    "machine, status": BY_STATUS,
    "machine, running": RUNNING,
    "everything": BY_LABEL,
}


def fill(connection: Connection) -> None:
    keys = range(1, SESSIONS + 1)
    blank = {"machine_version": "1", "metadata": pack({}), "seq": -1, "created_at": T0, "updated_at": T0, "last_event_id": 1}
    blank |= {"base_seq": -1, "snapshot_seq": -1, "log_bytes": 0, "snapshot_at": 4096}
    run = {"parameters": pack({}), "started_at": T0, "steps": 0, "started_event_id": 1}

    def session(key: int) -> dict[str, Any]:
        is_old, is_rare = key <= OLD, key % 100 == 0
        status = "failed" if is_rare else "ended" if is_old else "idle"
        kind = "old" if is_old else "new"
        return {"key": key, "id": f"s{key}", "machine": kind, "partition_key": "rare" if is_rare else kind, "status": status}

    def ran(key: int) -> dict[str, Any]:
        is_running = key % 100 == 0
        end = {"finished_at": None, "finished_event_id": None} if is_running else {"finished_at": T0, "finished_event_id": 2}
        return {**run, "id": f"r{key}", "session_key": key, "status": "running" if is_running else "finished", **end}

    connection.execute(text("BEGIN"))
    connection.execute(insert(sessions), [{**blank, **session(key)} for key in keys])
    connection.execute(insert(runs), [ran(key) for key in keys])
    envs = [{"label": label_of("env", "old" if key <= OLD else "new"), "session_key": key} for key in keys]
    users = [{"label": label_of("user", str(key // 10)), "session_key": key} for key in keys]
    connection.execute(insert(labels), [*envs, *users])
    connection.execute(text("COMMIT"))
    connection.execute(text("VACUUM"))
    connection.execute(text("ANALYZE"))


def queue(connection: Connection) -> None:
    """A run that waits, with its job, for each session."""
    connection.execute(
        text("""
        INSERT INTO runs (id, session_key, status, parameters, started_at, steps, started_event_id)
        SELECT 'waits-' || key, key, 'queued', '', 1e9 + key, 0, 0 FROM sessions
    """)
    )
    connection.execute(
        text("""
        INSERT INTO stepwell_pgqueuer (priority, created, updated, heartbeat, execute_after, status, entrypoint, dedupe_key)
        SELECT 0, now(), now(), now(), now(), 'queued', 'run', 'waits-' || key FROM sessions
    """)
    )
    connection.execute(text("VACUUM"))
    connection.execute(text("ANALYZE"))


def finish(connection: Connection) -> None:
    """A run of each of the many steps of one session, stored in it."""
    rows = []
    for seq in range(STEPS):
        start, end = started(f"f{seq}", 10 * seq + 1), ended(f"f{seq}", 10 * seq + 4)
        made = step(seq, first_event_id=10 * seq + 2, event_id=10 * seq + 3)
        payload = encode_payload(made.operations, made.result, run_document(start, end, made))
        row = step_row(made, start.run_id, payload, ends_run=True)
        rows.append({"session_key": 1, **dict(zip(STEP_COLUMNS, row, strict=True))})
    connection.execute(text("BEGIN"))
    connection.execute(insert(steps), rows)
    connection.execute(text("COMMIT"))
    connection.execute(text("VACUUM"))
    connection.execute(text("ANALYZE"))


@asynccontextmanager
async def engine_of(url: str) -> AsyncIterator[AsyncEngine]:
    match parse(url):
        case Sqlite() as database:
            engine = sqlite_reader(database, size=2, busy_timeout_s=5)
        case Postgres() as database:
            engine = postgres_engine(database, pool_size=2, is_pgbouncer=False)
    try:
        yield engine
    finally:
        await engine.dispose()


class Asked:
    """The statements that go to a database, and how it carries them out."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN (COSTS OFF) "
        self._statements: list[tuple[str, Any]] = []
        event.listen(engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        if not statement.startswith(self._explain):
            self._statements.append((statement, values))

    async def plans(self) -> list[list[str]]:
        """Return the lines of the plan of each statement since the last call."""
        statements, self._statements = self._statements, []
        async with self._engine.connect() as connection:
            found = [await connection.exec_driver_sql(self._explain + statement, values) for statement, values in statements]
        return [[str(row[-1]).strip() for row in each] for each in found]


def walked(plan: list[str]) -> set[str]:
    """Return the indexes that are walked, as PostgreSQL calls them."""
    names = {"PRIMARY KEY": "pk_labels", "INTEGER PRIMARY KEY": "pk_sessions", None: "pk_sessions"}
    found = set()
    for line in plan:
        if on_postgresql := re.search(r"Scan Backward using (\S+) on \w+ walked", line):
            found.add(on_postgresql[1])
        elif on_sqlite := re.match(
            r"(?:SCAN|SEARCH) walked(?: USING (?:COVERING )?(?:INDEX (\S+)|((?:INTEGER )?PRIMARY KEY)))?", line
        ):
            found.add(on_sqlite[1] or names[on_sqlite[2]])
    return found


def faults(plan: list[str]) -> Iterator[str]:
    """Yield what reads or sorts more than a page: a whole table, a join that is not looked up row by row."""
    for line in plan:
        is_scan = re.search(r"Seq Scan|Hash Join|Merge Join|Bitmap|hashed|AUTOMATIC", line)
        is_unordered = line.startswith("Sort Key") and line != "Sort Key: sessions.key DESC"
        is_whole = line.startswith("SCAN") and line not in ("SCAN walked", "SCAN found", "SCAN CONSTANT ROW")
        if is_scan or is_unordered or (is_whole and "walked USING INDEX ix_runs_running" not in line):
            yield line


@pytest.mark.parametrize("before", [None, SESSIONS // 3], ids=["first page", "from the middle"])
async def test_a_list_of_sessions_walks_the_index_of_what_the_fewest_meet(database_url: str, before: int | None) -> None:
    await upgrade(database_url)
    await on_database(database_url, fill)
    cursor = None if before is None else encode_cursor(before)
    found = {}
    async with engine_of(database_url) as engine:
        reader, asked = Reader(engine), Asked(engine)
        for name, which in FILTERS.items():
            with short_walks(walked=300, reach=60):  # beside these sessions what the real ones are beside 100,000
                await reader.sessions_page(which, 10, cursor)
            plans = await asked.plans()
            assert [fault for plan in plans for fault in faults(plan)] == [], name
            found[name] = walked(plans[-1])
    assert found == {name: {index} for name, index in WALKED.items()}


async def test_the_search_for_orphans_does_not_read_the_whole_queue(postgres_url: str) -> None:
    await upgrade(postgres_url)
    await on_database(postgres_url, fill)
    await on_database(postgres_url, queue)
    async with engine_of(postgres_url) as engine:
        asked, replicas = Asked(engine), PostgresReplicas(engine, PostgresWriter(engine, timeout_s=5), lambda: engine)
        found = await replicas.orphans(queued_before_s=2e9, limit=SESSIONS)
        assert len(found) == SESSIONS // 100, "those that were under way"
        plans = [line for plan in await asked.plans() for line in plan]
    assert [line for line in plans if re.search("Seq Scan on (runs|stepwell_pgqueuer)", line)] == []
    used = {index[1] for line in plans if (index := re.search(r"(?:using|Index Scan on) (ix_runs\w+|stepwell\w+)", line))}
    assert used == {RUNNING, "ix_runs_unfinished", "stepwell_pgqueuer_unique_dedupe_key"}


async def test_a_finished_run_is_found_by_its_id_and_by_its_events(database_url: str) -> None:
    await upgrade(database_url)
    await on_database(database_url, fill)
    await on_database(database_url, finish)
    async with engine_of(database_url) as engine:
        reader, asked = Reader(engine), Asked(engine)
        assert (await reader.run(f"f{STEPS - 1}")).steps == 1
        by_id = [line for plan in await asked.plans() for line in plan]
        assert [run.id for run in await reader.runs("s1", 10 * (STEPS - 3), limit=2)] == [f"f{STEPS - 3}", f"f{STEPS - 2}"]
        by_event = [line for plan in await asked.plans() for line in plan]
    for plan, index in ((by_id, "ix_steps_ended_run"), (by_event, "ix_steps_ending_runs")):
        assert [line for line in plan if re.search("Seq Scan on steps|SCAN steps", line)] == []
        assert any(index in line for line in plan)
