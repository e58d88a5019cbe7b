"""Fixtures that several suites need."""

from collections.abc import Iterator

import pytest

from tests.pgbouncer import running_pgbouncer
from tests.postgres import fresh_database, running_postgres


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
def pgbouncer_server(postgres_server: str) -> Iterator[str]:
    """The url of the same server through a PgBouncer in transaction mode."""
    with running_pgbouncer(postgres_server) as url:
        yield url


@pytest.fixture
def pgbouncer_url(pgbouncer_server: str) -> Iterator[str]:
    """The url of an empty database behind a PgBouncer, for one test."""
    with fresh_database(pgbouncer_server) as url:
        yield url
