"""Which store a database url means."""

from app.persistence.memory import MemoryStore
from app.persistence.store import Store, StoreError

__all__ = ["DatabaseUrlInvalid", "open_store"]


class DatabaseUrlInvalid(StoreError, ValueError):
    """No store understands this database url."""


def open_store(database_url: str) -> Store:
    """Return the store behind `database_url`; it connects when its `open()` is awaited. Raises DatabaseUrlInvalid."""
    if database_url.partition(":")[0] == "memory":
        return MemoryStore()
    raise DatabaseUrlInvalid("a database url starts with sqlite:, postgresql: or memory:")
