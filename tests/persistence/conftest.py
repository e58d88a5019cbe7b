"""The stores of the contract tests: what holds for one of them holds for all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.persistence.store import Store
from tests.persistence.making import opened


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be opened more than once."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=["memory", "sqlite", "postgresql", "pgbouncer"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "memory":
            return "memory:"
        case "sqlite":
            return f"sqlite:///{tmp_path}/sessions.db"
        case "pgbouncer":
            return str(request.getfixturevalue("pgbouncer_store_url"))
    return str(request.getfixturevalue("postgres_store_url"))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """An open store without sessions."""
    async with opened(store_url) as store:
        yield store
