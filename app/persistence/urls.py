"""Database urls: which ones are understood, and what the drivers are told. A url may hold a password: no message shows it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.persistence.store import StoreError

__all__ = ["DatabaseUrlInvalid", "Memory", "Postgres", "Sqlite", "parse"]

_EXPECTED = "a database url starts with sqlite:///, postgresql:// or memory:"


class DatabaseUrlInvalid(StoreError, ValueError):
    """No store understands this database url."""


@dataclass(frozen=True, slots=True)
class Memory:
    pass


@dataclass(frozen=True, slots=True)
class Sqlite:
    path: Path


@dataclass(frozen=True, slots=True)
class Postgres:
    """`url` is for the asyncpg dialect; `connect` holds the arguments that libpq would have taken from the url."""

    url: URL
    connect: dict[str, Any]


def parse(database_url: str) -> Memory | Sqlite | Postgres:
    """Raises DatabaseUrlInvalid."""
    if database_url.partition(":")[0] == "memory":
        return Memory()
    try:
        url = make_url(database_url)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise DatabaseUrlInvalid(_EXPECTED) from None  # the cause shows the url
    match backend, url.drivername.partition("+")[2]:
        case "sqlite", "" | "aiosqlite" | "pysqlite":
            return _sqlite(url)
        case "postgresql" | "postgres", "" | "asyncpg":
            return _postgres(url)
        case "sqlite" | "postgresql" | "postgres", driver:
            raise DatabaseUrlInvalid(f"the driver {driver!r} is not supported: leave it out of the database url")
    raise DatabaseUrlInvalid(f"{_EXPECTED}, not {backend}:")


def _sqlite(url: URL) -> Sqlite:
    if url.database in (None, "", ":memory:"):
        raise DatabaseUrlInvalid("an SQLite url needs the path of a file, as in sqlite:///stepwell.db; for none use memory:")
    if url.query:
        raise DatabaseUrlInvalid(f"an SQLite url takes no parameters, but has {sorted(url.query)}")
    return Sqlite(Path(str(url.database)))


def _postgres(url: URL) -> Postgres:
    connect: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for name, value in url.query.items():
        match name:
            case "host" | "port":
                kept[name] = value
            case "sslmode" | "ssl":
                connect["ssl"] = value
            case "connect_timeout":
                connect["timeout"] = _seconds(name, value)
            case "application_name" | "search_path":
                connect.setdefault("server_settings", {})[name] = value
            case _:
                raise DatabaseUrlInvalid(f"the database url has the parameter {name!r}, which is not supported")
    return Postgres(_reachable(url.set(drivername="postgresql+asyncpg", query=kept)), connect)


def _reachable(url: URL) -> URL:
    if "@" in (url.host or ""):
        raise DatabaseUrlInvalid("the database url has more than one @: write %40 for one that belongs to the password")
    try:
        url.get_dialect()().create_connect_args(url)  # it alone knows how several hosts and ports are written
    except (ArgumentError, ValueError):
        raise DatabaseUrlInvalid("the hosts and ports of the database url cannot be read") from None
    return url


def _seconds(name: str, value: str | tuple[str, ...]) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise DatabaseUrlInvalid(f"the parameter {name!r} of the database url is not a number") from None
