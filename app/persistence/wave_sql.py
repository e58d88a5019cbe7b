"""SQL of the waves that reads the same on SQLite and PostgreSQL."""

__all__ = ["RUN_IS_THERE"]

_OF_THE_START = ("started_event_id", "started_at", "status", "finished_at", "steps", "reason", "error", "finished_event_id")

# a run that was queued begins now; of one that has begun already, what is handed in again may hold its end
RUN_IS_THERE = f"""
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _OF_THE_START)}
WHERE runs.session_key = excluded.session_key AND runs.finished_at IS NULL
    AND (runs.status = 'queued' OR excluded.finished_at IS NOT NULL)
"""
