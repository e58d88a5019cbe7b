"""SQL of the waves that reads the same on SQLite and PostgreSQL."""

__all__ = ["BEGIN_QUEUED_RUN"]

_OF_THE_START = ("started_event_id", "started_at", "status", "finished_at", "steps", "reason", "error", "finished_event_id")

BEGIN_QUEUED_RUN = f"""
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _OF_THE_START)}
WHERE runs.status = 'queued' AND runs.session_key = excluded.session_key
"""
