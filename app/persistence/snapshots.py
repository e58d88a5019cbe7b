"""When a whole state is stored beside the log, and how a state is made again from the two. Plain functions, no I/O.

The rule is geometric: a snapshot is paid for by at least twice its size of log, so that a state which only grows costs its own
size once, and a counter is read back from some forty small steps.
"""

from collections.abc import Iterable
from typing import Any

from app.engine.operations import Append, Extend, Operation

__all__ = ["ROW_BYTES", "pays_off", "replay", "threshold_after"]

ROW_BYTES = 64  # what reading one more row costs, in bytes of payload
_FLOOR_BYTES = 4096


def threshold_after(state_bytes: int) -> int:
    """Return how much log (payloads, and ROW_BYTES each) there has to be before a state of this size is looked at again."""
    return 2 * state_bytes + _FLOOR_BYTES


def pays_off(log_bytes: int, state_bytes: int) -> bool:
    """Whether to write a snapshot of `state_bytes` that replaces reading `log_bytes` of log."""
    return log_bytes >= 2 * state_bytes


def replay(state: dict[str, Any], operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the state after `operations`; takes over `state`. A list that grows is copied once, not once per operation."""
    own: set[str] = set()
    for operation in operations:
        key = operation.key
        if not isinstance(operation, Append | Extend):
            operation.apply(state)
            own.discard(key)
        elif key in own:
            state[key].extend((operation.value,) if isinstance(operation, Append) else operation.items)
        else:
            operation.apply(state)
            own.add(key)
    return state
