"""The schema: made by migrations, the one that the tables say, refused when it is another."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from app.persistence import migrating
from app.persistence.engines import postgres_engine, sqlite_writer
from app.persistence.factory import open_store
from app.persistence.migrating import SchemaMismatch, check, current, upgrade
from app.persistence.tables import HEAD_REVISION, METADATA
from app.persistence.urls import Postgres, Sqlite, parse
from tests.persistence.making import new, opened, queried

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]


async def on(url: str, look: Callable[[Connection], T]) -> T:
    """What `look(connection)` returns."""
    match parse(url):
        case Sqlite() as database:
            with sqlite_writer(database, is_power_safe=True, busy_timeout_s=1).connect() as connection:
                return look(connection)
        case Postgres() as database:
            server = postgres_engine(database, pool_size=1, is_pgbouncer=False)
            async with server.begin() as there:
                found: T = await there.run_sync(look)
            await server.dispose()
            return found
    raise AssertionError(url)


async def test_the_migrations_make_the_tables_that_the_code_expects(database_url: str) -> None:
    await upgrade(database_url)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": "stepwell_schema", "compare_type": True})
        return list(compare_metadata(context, METADATA))

    assert await on(database_url, differences) == []


async def test_sqlite_gives_every_session_a_key_that_was_never_used(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    await upgrade(url)

    assert "AUTOINCREMENT" in await queried(url, "SELECT sql FROM sqlite_master WHERE name = 'sessions'")
    assert "WITHOUT ROWID" in await queried(url, "SELECT sql FROM sqlite_master WHERE name = 'labels'")


def test_the_newest_migration_is_the_one_that_the_code_names() -> None:
    assert ScriptDirectory(str(ROOT / "migrations")).get_current_head() == HEAD_REVISION


async def test_the_version_is_known_before_and_after(database_url: str) -> None:
    assert await current(database_url) is None
    with pytest.raises(SchemaMismatch, match="db upgrade"):
        await check(database_url)
    assert await upgrade(database_url) == HEAD_REVISION
    assert await upgrade(database_url) == HEAD_REVISION
    assert await current(database_url) == HEAD_REVISION
    await check(database_url)


def test_looking_at_a_file_that_is_not_there_does_not_make_it(tmp_path: Path) -> None:
    assert asyncio.run(current(f"sqlite:///{tmp_path}/sessions.db")) is None
    assert list(tmp_path.iterdir()) == []


async def test_sqlite_migrates_itself_and_postgresql_only_when_asked(tmp_path: Path, postgres_url: str) -> None:
    file = open_store(f"sqlite:///{tmp_path}/sessions.db")
    await file.open()
    await file.create_session(new())
    await file.close()
    server = open_store(postgres_url)
    with pytest.raises(SchemaMismatch, match="no schema yet") as caught:
        await server.open()
    await server.close()
    assert "\n" not in str(caught.value)
    await upgrade(postgres_url)
    server = open_store(postgres_url)
    await server.open()
    await server.create_session(new())
    await server.close()


async def test_a_newer_schema_is_refused_in_one_line(database_url: str) -> None:
    await upgrade(database_url)

    await queried(database_url, "UPDATE stepwell_schema SET version_num = '9999' RETURNING 1")
    for attempt in (check(database_url), upgrade(database_url)):
        with pytest.raises(SchemaMismatch, match="newer version") as caught:
            await attempt
        assert "\n" not in str(caught.value)
    with pytest.raises(SchemaMismatch, match="9999"):
        async with opened(database_url):
            pass


CREATE_ONE = """
import asyncio, sys
from tests.persistence.making import new, opened

async def main(url, name):
    async with opened(url, patience_s=30.0) as store:
        await store.create_session(new(name))

asyncio.run(main(*sys.argv[1:]))
"""


def test_processes_that_start_at_once_do_not_collide(database_url: str) -> None:
    commands = [[sys.executable, "-c", CREATE_ONE, database_url, f"s{number}"] for number in range(4)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for command in commands]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert asyncio.run(queried(database_url, "SELECT count(*) FROM sessions")) == 4


BROKEN = f"""
import sqlalchemy as sa
from alembic import op
revision = {HEAD_REVISION!r}
down_revision = None
def upgrade():
    op.create_table("half", sa.Column("x", sa.Integer))
    op.execute("SELECT no_such_thing FROM half")
"""


async def test_a_migration_that_fails_leaves_nothing(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken migrations"
    (broken / "versions").mkdir(parents=True)
    (broken / "env.py").write_text((ROOT / "migrations" / "env.py").read_text())
    (broken / "versions" / "0001_half.py").write_text(BROKEN)
    monkeypatch.setattr(migrating, "migrations_folder", lambda: broken)
    with pytest.raises(migrating.StoreError):
        await upgrade(database_url)
    monkeypatch.undo()
    assert await current(database_url) is None
    async with opened(database_url) as store:
        await store.create_session(new())


async def test_checking_while_upgrading_is_safe(database_url: str) -> None:
    outcomes = await asyncio.gather(upgrade(database_url), upgrade(database_url), upgrade(database_url))
    assert outcomes == [HEAD_REVISION] * 3
