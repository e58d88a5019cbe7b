"""When a whole state is stored beside the log. Plain functions, no I/O. How it is made again from the two is in `replaying`.

The rule is geometric: a snapshot is paid for by at least twice its size of log, so that a state which only grows costs its own
size once, and a counter is read back from some forty small steps.
"""

__all__ = ["ROW_BYTES", "pays_off", "threshold_after"]

ROW_BYTES = 64  # what reading one more row costs, in bytes of payload
_FLOOR_BYTES = 4096


def threshold_after(state_bytes: int) -> int:
    """Return how much log (payloads, and ROW_BYTES each) there has to be before a state of this size is looked at again."""
    return 2 * state_bytes + _FLOOR_BYTES


def pays_off(log_bytes: int, state_bytes: int) -> bool:
    """Whether to write a snapshot of `state_bytes` that replaces reading `log_bytes` of log."""
    return log_bytes >= 2 * state_bytes
