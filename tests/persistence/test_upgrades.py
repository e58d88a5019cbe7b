"""Each migration, run on a database that the version before it has filled: what was stored is there and goes on."""

import time
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, Table, insert, select

from app.engine.operations import Increment
from app.persistence.codec import deflate, encode_payload, encode_state, pack
from app.persistence.migrating import current, upgrade
from app.persistence.records import RunStatus, SessionFilter
from app.persistence.tables import HEAD_REVISION
from app.persistence.wave_rows import labels_of
from tests.persistence.making import T0, new, on_database, opened, step, step_commit
from tests.persistence.test_migrations import upgrade_to

METADATA = {"env": "prod"}
STEPS = 3

# what the first version wrote for a session of three steps and its run; the later ones have only added columns
SESSION = {
    "id": "s", "machine": "counter", "machine_version": "1", "partition_key": "p", "metadata": pack(METADATA),
    "status": "idle", "seq": STEPS - 1, "prior_action": "count", "next_action": "count", "created_at": T0, "updated_at": T0 + 9,
    "last_event_id": 50, "base_seq": -1, "snapshot_seq": -1, "log_bytes": 300, "snapshot_at": 4096,
}  # fmt: skip
RUN = {
    "id": "r", "session_key": 1, "status": "finished", "parameters": pack({"max_steps": STEPS}), "started_at": T0,
    "finished_at": T0 + 9, "steps": STEPS, "reason": "max_steps", "started_event_id": 5, "finished_event_id": 50,
}  # fmt: skip


def step_row(seq: int) -> dict[str, Any]:
    payload = deflate(encode_payload((Increment("n", 1),), {"n": seq + 1}))
    return {
        "session_key": 1, "seq": seq, "kind": "action", "run_id": "r", "action": "count", "next_action": "count",
        "started_at": T0 + seq, "finished_at": T0 + seq + 0.5, "first_event_id": 10 * seq + 11, "event_id": 10 * seq + 12,
        "payload": payload,
    }  # fmt: skip


def fill(connection: Connection) -> None:
    """Write what a service of that version would have written."""
    there = MetaData()
    there.reflect(connection)

    def put(table: str, **values: Any) -> None:
        known: Table = there.tables[table]
        connection.execute(insert(known), {name: value for name, value in values.items() if name in known.c})

    put("sessions", **SESSION)
    put("runs", **RUN)
    for seq in range(STEPS):
        put("steps", **step_row(seq))
    put("snapshots", session_key=1, seq=-1, state=deflate(encode_state({"n": 0})))
    for label in labels_of(METADATA):
        put("labels", session_key=1, label=label)
    failure = pack(["ValueError", "no", "Traceback …"])
    times = {"started_at": T0, "finished_at": T0}
    put("failures", session_key=1, event_id=31, first_event_id=30, seq=2, run_id="r", action="count", error=failure, **times)


def versions(connection: Connection) -> list[str]:
    table = Table("stepwell_schema", MetaData(), autoload_with=connection)
    return [row.version_num for row in connection.execute(select(table))]


@pytest.mark.parametrize("revision", [f"{number:04}" for number in range(1, int(HEAD_REVISION))])
async def test_a_database_of_an_older_version_goes_on_as_if_nothing_had_been(database_url: str, revision: str) -> None:
    await on_database(database_url, lambda connection: upgrade_to(connection, revision))
    await on_database(database_url, fill)
    assert await current(database_url) == revision
    assert await upgrade(database_url) == HEAD_REVISION
    assert await on_database(database_url, versions) == [HEAD_REVISION]
    async with opened(database_url) as store:
        loaded = await store.load_session("s")
        assert (loaded.state, loaded.record.metadata, loaded.record.partition_key) == ({"n": STEPS}, METADATA, "p")
        assert (loaded.record.ttl_s, loaded.record.trimmed_event_id) == (None, 0)
        assert [(found.seq, found.run_id, found.result) for found in await store.list_steps("s")] == [
            (seq, "r", {"n": seq + 1}) for seq in range(STEPS)
        ]
        run = await store.get_run("r")
        assert (run.status, run.steps, run.parameters, run.attempts) == (RunStatus.FINISHED, STEPS, {"max_steps": STEPS}, 0)
        assert [failure.error_type for failure in await store.list_failures("s")] == ["ValueError"]
        page = await store.list_sessions(SessionFilter(machine="counter", metadata={"env": "prod"}), 10, None)
        assert [record.id for record in page.sessions] == ["s"]
        await store.commit(step_commit("s", step(STEPS)))
        assert (await store.load_session("s")).state == {"n": STEPS + 1}
        await store.create_session(new("later", created_at_s=time.time(), ttl_s=60.0))
        assert await store.trim("s", before_seq=2) == 2
        await store.delete_session("s")
