"""With a million sessions a list must not look at all of them: each filter alone walks an index that is in the list's order."""

from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite

from app.persistence.engines import sqlite_writer
from app.persistence.migrating import upgrade
from app.persistence.records import SessionFilter, SessionStatus
from app.persistence.statements import sessions_page
from app.persistence.urls import Sqlite

FILTERS = [
    SessionFilter(),
    SessionFilter(machine="m"),
    SessionFilter(partition_key="p"),
    SessionFilter(status=SessionStatus.FAILED),
    SessionFilter(metadata={"env": "prod"}),
    SessionFilter(machine="m", metadata={"env": "prod"}),
    SessionFilter(metadata={"env": "prod", "user": "7"}),
]


@pytest.mark.parametrize("before", [None, 1000])
@pytest.mark.parametrize("which", FILTERS, ids=str)
async def test_a_list_of_sessions_is_read_in_the_order_of_an_index(
    tmp_path: Path, which: SessionFilter, before: int | None
) -> None:
    path = tmp_path / "sessions.db"
    await upgrade(f"sqlite:///{path}")
    compiled = sessions_page(which, before, 50).compile(dialect=sqlite.dialect())
    values = tuple(compiled.params[name] for name in compiled.positiontup or ())
    with sqlite_writer(Sqlite(path), is_power_safe=True, busy_timeout_s=1).connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)]
    assert not any("TEMP B-TREE" in line for line in plan), plan
    scans = [line for line in plan if line.startswith("SCAN")]
    assert scans in ([], ["SCAN sessions"] if which == SessionFilter() else [])
