"""Runs that have ended with a step, and are stored in it: a run of a chat's turn then takes no row and no index of its own.

What of a run is near to its step is stored as a small distance from it: ids of events, and times, which are mostly those of
the events to a few microseconds. `docs/adr/0027` says more.
"""

from typing import Any

from app.engine.serde import decode_hosted, encode
from app.persistence.codec import PayloadInvalid, decode_run
from app.persistence.records import RunEnd, RunRecord, RunStart, RunStatus, StepCommit

__all__ = ["run_document", "run_id_of", "run_in_step", "run_key"]

_UUID_BYTES = 16
_END = b"\xff"  # no UTF-8 has it


def run_key(run_id: str) -> bytes:
    """Return what `run_id` is stored as in a step: the 16 bytes of a UUID, or any other text, and then another length."""
    try:
        blob = bytes.fromhex(run_id.replace("-", ""))
    except ValueError:
        blob = b""
    if len(blob) == _UUID_BYTES and _uuid(blob) == run_id:
        return blob
    text = run_id.encode() + _END
    return text + _END if len(text) == _UUID_BYTES else text


def run_id_of(key: bytes) -> str:
    """Return the id that `run_key` was given."""
    return _uuid(key) if len(key) == _UUID_BYTES else key.rstrip(_END).decode()


def run_document(start: RunStart, end: RunEnd, step: StepCommit) -> list[Any]:
    """Return what is stored in `step`, its last one, of a run that has finished."""
    return [
        encode(dict(start.parameters)),
        step.first_event_id - start.event_id,
        end.event_id - step.event_id,
        _distance(start.started_at_s, start.event_id),
        _distance(end.finished_at_s, end.event_id),
        end.steps,
        end.reason,
    ]


def run_in_step(row: Any) -> RunRecord:
    """Return the run that ended with the step in `row`. Raises PayloadInvalid."""
    match decode_run(row.payload):
        case [parameters, int(before), int(after), started, finished, int(steps), reason]:
            started_event_id, finished_event_id = row.first_event_id - before, row.event_id + after
            return RunRecord(
                id=run_id_of(row.ended_run),
                session_id=row.session_id,
                status=RunStatus.FINISHED,
                parameters=decode_hosted(parameters),
                started_at_s=_time(started, started_event_id),
                finished_at_s=_time(finished, finished_event_id),
                steps=steps,
                reason=reason,
                error=None,
                started_event_id=started_event_id,
                finished_event_id=finished_event_id,
            )
    raise PayloadInvalid("a stored step does not hold the run that ended with it")


def _uuid(blob: bytes) -> str:
    digits = blob.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _distance(at_s: float, event_id: int) -> int | float:
    """Return the microseconds from the event to `at_s`, or `at_s` itself if it is no whole number of them."""
    distance = round(at_s * 1e6) - event_id
    return distance if (event_id + distance) / 1e6 == at_s else at_s


def _time(distance: float, event_id: int) -> float:
    return (event_id + distance) / 1e6 if isinstance(distance, int) else distance
