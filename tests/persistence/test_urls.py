"""Database urls: every common spelling, and no password in any error."""

from pathlib import Path

import pytest

from app.persistence.factory import open_store
from app.persistence.memory import MemoryStore
from app.persistence.migrating import check, current
from app.persistence.tables import HEAD_REVISION
from app.persistence.urls import DatabaseUrlInvalid, Memory, Postgres, Sqlite, parse


@pytest.mark.parametrize("url", ["memory:", "memory://"])
async def test_memory_is_a_store_without_a_database(url: str) -> None:
    assert parse(url) == Memory()
    assert isinstance(open_store(url), MemoryStore)
    assert await current(url) == HEAD_REVISION
    await check(url)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a.db", "a.db"),
        ("sqlite:////var/lib/a.db", "/var/lib/a.db"),
        ("sqlite+aiosqlite:///a.db", "a.db"),
        ("sqlite:///dir with space/%41.db", "dir with space/A.db"),
    ],
)
def test_sqlite_urls_name_a_file(url: str, path: str) -> None:
    assert parse(url) == Sqlite(Path(path))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_postgresql_has_several_spellings(scheme: str) -> None:
    database = parse(f"{scheme}://user:p%40ss@db.example:5433/name?sslmode=require&application_name=x&connect_timeout=3")
    assert isinstance(database, Postgres)
    assert database.url.render_as_string(hide_password=False) == "postgresql+asyncpg://user:p%40ss@db.example:5433/name"
    assert database.connect == {"ssl": "require", "server_settings": {"application_name": "x"}, "timeout": 3.0}


def test_a_socket_is_named_by_its_folder() -> None:
    database = parse("postgresql://postgres:@/name?host=/run/postgresql")
    assert isinstance(database, Postgres)
    assert database.url.query == {"host": "/run/postgresql"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "starts with"),
        ("nonsense", "starts with"),
        ("mysql://u:hunter2@h/d", "not mysql"),
        ("sqlite://", "path of a file"),
        ("sqlite:///:memory:", "memory:"),
        ("sqlite:///a.db?mode=ro", "mode"),
        ("postgresql+psycopg2://u:hunter2@h/d", "psycopg2"),
        ("postgresql://u:hunter2@h/d?odd=1", "odd"),
        ("postgresql://u:hunter2@h/d?connect_timeout=soon", "connect_timeout"),
        ("postgresql://u:hunter2@h:port/d", "starts with"),
        ("postgresql://u:hunter2@/d?host=h&port=port", "hosts and ports"),
        ("postgresql://u:hunter2@/d?host=one&host=other", "hosts and ports"),
    ],
)
def test_other_urls_are_refused_without_showing_a_password(url: str, message: str) -> None:
    with pytest.raises(DatabaseUrlInvalid, match=message) as caught:
        open_store(url)
    assert "hunter2" not in str(caught.value)
