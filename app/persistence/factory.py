"""Which store a database url means."""

from app.persistence.database import PostgresDatabase, SqliteDatabase
from app.persistence.memory import MemoryStore
from app.persistence.sql_store import SqlStore
from app.persistence.store import Store
from app.persistence.urls import Memory, Postgres, Sqlite, parse
from app.persistence.writer import LOCK_PATIENCE_S

__all__ = ["open_store"]


def open_store(
    database_url: str,
    *,
    migrate: bool = False,
    pool_size: int = 5,
    is_pgbouncer: bool = False,
    is_power_safe: bool = True,
    patience_s: float = 2.0,
    lock_patience_s: float = LOCK_PATIENCE_S,
    background_runs: int = 100,
) -> Store:
    """Return the store behind `database_url`; it connects when its `open()` is awaited. Raises DatabaseUrlInvalid.

    So many `background_runs` are taken from its queue at once. `patience_s` is how long a commit waits for a database that is
    away, `lock_patience_s` how long for one that another process has locked.
    PostgreSQL only: with `migrate` the schema is brought up to date (SQLite's always is); `pool_size` connections, one of them
    for writing and one for the queue; `is_pgbouncer` if there is one in transaction mode in between.
    SQLite only: without `is_power_safe` the last commits may be lost when the power fails, though not when the process dies.
    """
    match parse(database_url):
        case Memory():
            return MemoryStore(background_runs)
        case Sqlite() as database:
            file = SqliteDatabase(
                database,
                is_power_safe=is_power_safe,
                busy_timeout_s=patience_s,
                lock_patience_s=lock_patience_s,
                background_runs=background_runs,
            )
            return SqlStore(file, patience_s=patience_s, lock_patience_s=lock_patience_s)
        case Postgres() as database:
            server = PostgresDatabase(
                database,
                pool_size=pool_size,
                is_pgbouncer=is_pgbouncer,
                is_migrating=migrate,
                background_runs=background_runs,
            )
            return SqlStore(server, patience_s=patience_s)
