"""Points in time as HTTP shows them."""

from datetime import UTC, datetime

__all__ = ["rfc3339"]


def rfc3339(unix_s: float) -> str:
    """Return `unix_s` (Unix seconds) as RFC 3339 text in UTC, to the microsecond."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
