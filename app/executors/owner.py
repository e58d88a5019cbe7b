"""On whose account code runs: which session, which machine, which action.

The host sets `current_owner` in the task of a run when a step begins. Tasks that an action starts inherit it.
"""

from contextvars import ContextVar

from app.engine.frozen import frozen

__all__ = ["CallOwner", "current_owner"]


@frozen
class CallOwner:
    """One step of one session; `action` is None outside a step (a hook around a whole run)."""

    session_id: str
    machine: str
    action: str | None = None


current_owner: ContextVar[CallOwner | None] = ContextVar("stepwell_current_owner", default=None)
