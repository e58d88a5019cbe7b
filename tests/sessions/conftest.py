"""Stores for tests of the host: what holds for one of them holds for all."""

from pathlib import Path

import pytest

from app.persistence.factory import open_store
from app.persistence.store import Store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store that nobody has opened yet."""
    return open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Where a test can open the same store twice."""
    return f"sqlite:///{tmp_path}/sessions.db"
