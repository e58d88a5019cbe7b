"""How PostgreSQL sounds through a pooler in transaction mode that this service was not told of."""

__all__ = ["pooler_hint"]

# a statement was prepared on the connection that another client has now, or this connection has one from another client
_OF_ANOTHER_CONNECTION = frozenset({"26000", "42P05"})


def pooler_hint(sqlstate: str | None) -> str | None:
    """Return what to do about an error with this SQLSTATE, None if it is another kind of error."""
    if sqlstate not in _OF_ANOTHER_CONNECTION:
        return None
    return "prepared statements get lost on the way to PostgreSQL, as in a PgBouncer in transaction mode: set STEPWELL_PGBOUNCER"
