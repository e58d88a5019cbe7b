"""Fixtures that several suites need."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from app.persistence.migrating import upgrade
from tests.pgbouncer import running_pgbouncer
from tests.postgres import fresh_database, running_postgres

# a machine that has much else to do is no fault of what is tested
settings.register_profile("stepwell", deadline=None)
settings.load_profile("stepwell")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The url of a PostgreSQL that lives as long as this test process."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The url of an empty database, for one test."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a database that has the schema of now, to be copied."""
    with fresh_database(postgres_server) as url:
        asyncio.run(upgrade(url))
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def postgres_store_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The url of a database without sessions, for one test."""
    with fresh_database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: str) -> Iterator[str]:
    """The url of the same server through a PgBouncer in transaction mode."""
    with running_pgbouncer(postgres_server) as url:
        yield url


@pytest.fixture
def pgbouncer_url(pgbouncer_server: str) -> Iterator[str]:
    """The url of an empty database behind a PgBouncer, for one test."""
    with fresh_database(pgbouncer_server) as url:
        yield url


@pytest.fixture
def pgbouncer_store_url(pgbouncer_server: str, postgres_template: str) -> Iterator[str]:
    """The url of a database without sessions behind a PgBouncer, for one test."""
    with fresh_database(pgbouncer_server, postgres_template) as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store of each kind can be opened: what holds for all of them is one test."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_store_url"))
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"
