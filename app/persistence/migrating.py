"""The schema's version: what it is, whether this program can work with it, and how to bring it up to date.

`migrations/` is beside `app/` in a checkout and `app/_migrations` in the wheel. Everything that a call changes happens in one
transaction, behind a lock: several processes may start on one empty database.
"""

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from app.engine.private_files import create_private_file
from app.persistence.damage import damage_hint
from app.persistence.engines import postgres_engine, sqlite_writer
from app.persistence.store import StoreError, StoreUnavailable
from app.persistence.tables import HEAD_REVISION
from app.persistence.urls import Memory, Postgres, Sqlite, parse
from app.system.host_threads import run_in_own_thread

__all__ = ["SchemaMismatch", "check", "current", "migrations_folder", "on_postgres", "on_sqlite", "upgrade"]

_VERSION_TABLE = "stepwell_schema"
_version = Table(_VERSION_TABLE, MetaData(), Column("version_num", String(32)))
_LOCK_TIMEOUT_S = 30.0
_LOCK = 0x57E9_3E11  # any number, as long as it is always the same


class SchemaMismatch(StoreError):
    """The database's schema is older or newer than the one that this version works with, or none of stepwell's."""

    def __init__(self, found: str | None, *, is_known: bool = True) -> None:
        what = "no schema yet" if found is None else f"schema {found!r}"
        is_newer = found is not None and found > HEAD_REVISION
        advice = "a newer version of stepwell made it" if is_newer else "run `stepwell db upgrade`"
        if not is_known:
            advice = "no version of stepwell made it"
        super().__init__(f"the database has {what}, this version works with {HEAD_REVISION!r}: {advice}")
        self.found = found


async def current(database_url: str) -> str | None:
    """Return the database's schema version, None if it has none. Raises StoreUnavailable, DatabaseUrlInvalid."""
    return await _on_database(database_url, False)


async def upgrade(database_url: str) -> str:
    """Bring the schema up to date and return its version. Raises SchemaMismatch if it is newer, StoreUnavailable."""
    await _on_database(database_url, True)
    return HEAD_REVISION


async def check(database_url: str) -> None:
    """Return if the schema is the one that this version works with. Raises SchemaMismatch, StoreUnavailable."""
    found = await current(database_url)
    if found != HEAD_REVISION and not isinstance(parse(database_url), Memory):
        raise SchemaMismatch(found)


async def _on_database(database_url: str, is_upgrade: bool) -> str | None:
    match parse(database_url):
        case Memory():
            return HEAD_REVISION
        case Sqlite() as database:
            return await run_in_own_thread(on_sqlite, database, is_upgrade=is_upgrade)
        case Postgres() as database:
            return await on_postgres(database, is_upgrade=is_upgrade)


def on_sqlite(database: Sqlite, *, is_upgrade: bool) -> str | None:
    """Return the schema's version, after an upgrade if that is wanted. Blocks."""
    if not is_upgrade and not database.path.exists():
        return None  # looking must not create the file
    if is_upgrade:
        create_private_file(database.path)  # its log and its index, which SQLite creates, are as private
    engine = sqlite_writer(database, is_power_safe=True, busy_timeout_s=_LOCK_TIMEOUT_S)
    try:
        with engine.connect() as connection:
            found = _revision(connection)
            if is_upgrade and found != HEAD_REVISION:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                _upgrade(connection)
                connection.exec_driver_sql("COMMIT")
                return HEAD_REVISION
            return found
    except (SQLAlchemyError, OSError) as exc:
        raise StoreUnavailable(f"cannot open the SQLite database {str(database.path)!r}: {_reason(exc)}") from exc
    finally:
        engine.dispose()


async def on_postgres(database: Postgres, *, is_upgrade: bool) -> str | None:
    """Return the schema's version, after an upgrade if that is wanted."""
    engine = postgres_engine(database, pool_size=1, is_pgbouncer=True)
    try:
        async with engine.begin() as connection:
            if is_upgrade:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                await connection.run_sync(_upgrade)
            return await connection.run_sync(_revision)
    except (SQLAlchemyError, OSError, TimeoutError) as exc:
        raise StoreUnavailable(f"cannot reach PostgreSQL: {_reason(exc)}") from exc
    finally:
        await engine.dispose()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.execute(select(_version.c.version_num)).scalar_one_or_none()
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    """Run what is missing, in the transaction that is open. Raises SchemaMismatch if the schema is newer, or unknown."""
    found = _revision(connection)  # again: another process may have been here before we had the lock
    if found == HEAD_REVISION:
        return
    if found is not None and found > HEAD_REVISION:
        raise SchemaMismatch(found)
    from alembic import command  # here: slow to import, and not needed by a start that finds its schema
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes |= {"connection": connection, "version_table": _VERSION_TABLE}
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaMismatch(found, is_known=False)
    command.upgrade(config, "head")


def migrations_folder() -> Path:
    """Where the migrations are: in the wheel, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "_migrations"
    return packed if packed.is_dir() else package.parent / "migrations"


def _reason(exc: BaseException) -> str:
    origin = getattr(exc, "orig", None) or exc
    said = f"{type(origin).__name__}: {origin}".splitlines()[0]
    hint = damage_hint(origin)
    return said if hint is None else f"{said}; {hint}"
