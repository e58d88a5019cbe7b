"""A change of the state by hand, written as a step of its own kind."""

from app.persistence.records import Commit, SessionStatus, StepKind
from app.persistence.store import Store, StoreUnavailable
from app.sessions.branching import edited
from app.sessions.events import Event, EventType, StepDone
from app.sessions.live import LiveSession
from app.sessions.requests import StateEdit

__all__ = ["write_edit"]


async def write_edit(store: Store, live: LiveSession, edit: StateEdit) -> None:
    """Make `edit` durable and move the idle session on. Nothing else may happen to the session meanwhile.

    Raises MachineChanged, UnserializableValue and what the store raises; the session then stands where it stood.
    """
    stream = live.stream
    live.is_edited = True
    await stream.until_released()
    stream.hold()
    try:
        step = edited(live, edit, stream.next_id())
        status = SessionStatus.ENDED if step.next_action is None else SessionStatus.IDLE
        await store.commit(Commit(live.id, status, step.event_id, step=step))
        live.state, live.seq, live.next_action = step.state, step.seq, step.next_action
        live.status, live.updated_at_s = status, step.finished_at_s
        live.forget_application()
        done = StepDone(
            step.seq,
            StepKind.EDIT,
            step.action,
            step.operations,
            step.result,
            step.next_action,
            step.started_at_s,
            step.finished_at_s,
        )
        stream.append(Event(step.event_id, EventType.STEP_FINISHED, None, done))
        stream.release()
    except BaseException as exc:
        if not (isinstance(exc, StoreUnavailable) and exc.in_doubt):  # or nothing more is shown before the session is read again
            stream.release()
        raise
    finally:
        live.is_edited = False
