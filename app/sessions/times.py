"""Points in time as HTTP shows them."""

from datetime import UTC, datetime

from app.system.clocks import current_time_s

__all__ = ["now_s", "rfc3339"]


def now_s() -> float:
    """Return the time in Unix seconds, to the microsecond: beside an event id that is a small number, which is cheap to store."""
    return int(current_time_s() * 1e6) / 1e6


def rfc3339(unix_s: float) -> str:
    """Return `unix_s` (Unix seconds) as RFC 3339 text in UTC, to the microsecond."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
