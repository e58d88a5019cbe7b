"""The schema: made by migrations, the one that the tables say, refused when it is another."""

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.queries import Queries
from sqlalchemy import Connection

from app.persistence import migrating
from app.persistence.factory import open_store
from app.persistence.migrating import SchemaMismatch, check, current, upgrade
from app.persistence.postgres_jobs import QUEUE_NAMES
from app.persistence.tables import HEAD_REVISION, METADATA
from tests.persistence.making import new, on_database, opened, queried

ROOT = Path(__file__).resolve().parents[2]


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or not str(name).startswith("stepwell_pgqueuer")  # those are PgQueuer's affair


async def test_the_migrations_make_the_tables_that_the_code_expects(database_url: str) -> None:
    await upgrade(database_url)

    def differences(connection: Connection) -> list[object]:
        opts = {"version_table": "stepwell_schema", "compare_type": True, "include_name": is_ours}
        context = MigrationContext.configure(connection, opts=opts)
        return list(compare_metadata(context, METADATA))

    assert await on_database(database_url, differences) == []


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


@pytest.mark.parametrize("unknown", ["", "0000", "0003x"])
async def test_a_schema_that_no_version_has_made_is_refused_and_left_as_it_is(database_url: str, unknown: str) -> None:
    await upgrade(database_url)

    await queried(database_url, f"UPDATE stepwell_schema SET version_num = '{unknown}' RETURNING 1")
    with pytest.raises(SchemaMismatch, match="no version of stepwell made it") as caught:
        await upgrade(database_url)
    assert "\n" not in str(caught.value)
    assert await current(database_url) == unknown


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


def upgrade_to(connection: Connection, revision: str) -> None:
    """What an older version of the service did at its start."""
    config = Config()
    config.set_main_option("script_location", str(migrating.migrations_folder()))
    config.attributes |= {"connection": connection, "version_table": "stepwell_schema"}
    command.upgrade(config, revision)


RUN_OF_0002 = """
    INSERT INTO runs (id, session_key, status, parameters, started_at, finished_at, steps, started_event_id, webhook, webhook_at)
    VALUES ('{id}', 1, 'finished', '', 5, 6, 1, 1, {webhook}, {due}) RETURNING id
"""


async def test_webhooks_that_were_stored_before_the_third_version_are_due_after_it(database_url: str) -> None:
    await on_database(database_url, lambda connection: upgrade_to(connection, "0002"))
    assert await current(database_url) == "0002"
    for name, webhook, due in (("new", "'x'", "NULL"), ("tried", "'x'", "99"), ("none", "NULL", "NULL")):
        await queried(database_url, RUN_OF_0002.format(id=name, webhook=webhook, due=due))
    assert await upgrade(database_url) == HEAD_REVISION
    found = [await queried(database_url, f"SELECT webhook_at FROM runs WHERE id = '{name}'") for name in ("new", "tried", "none")]
    assert found == [5.0, 99.0, None]


async def test_pgqueuer_finds_its_tables_as_this_version_of_it_expects_them(postgres_url: str) -> None:
    await upgrade(postgres_url)
    connection = await asyncpg.connect(postgres_url)
    try:
        queries = Queries.from_asyncpg_connection(connection)
        queries.qbe = QueryBuilderEnvironment(QUEUE_NAMES)
        assert await queries.schema_is_installed()
        assert list((await queries.plan_upgrade()).statements) == []
    finally:
        await connection.close()


def test_the_names_of_the_queue_do_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQUEUER_PREFIX", "other_")
    monkeypatch.setenv("FUNCTION", "another")
    names = type(QUEUE_NAMES)(prefix="stepwell_", durability=QUEUE_NAMES.durability)
    assert names == QUEUE_NAMES
    assert names.function == "stepwell_fn_pgqueuer_changed"
