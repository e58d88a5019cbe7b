"""The rule for snapshots."""

from app.persistence.snapshots import ROW_BYTES, pays_off, threshold_after


def log_and_snapshots(step_bytes: int, size_after: list[int]) -> tuple[int, int, int]:
    """Play the rule over states of these sizes. Return bytes of payload, bytes of snapshots, and the longest replay in rows."""
    threshold = threshold_after(0)
    log = snapshots = rows = longest = 0
    for size in size_after:
        log += step_bytes + ROW_BYTES
        rows += 1
        longest = max(longest, rows)
        if log >= threshold:
            threshold = threshold_after(size)
            if pays_off(log, size):
                snapshots += size
                log = rows = 0
    return step_bytes * len(size_after), snapshots, longest


def test_a_state_that_stays_small_is_read_from_few_rows() -> None:
    payload, snapshots, longest = log_and_snapshots(30, [40] * 10_000)
    assert longest <= 64
    assert snapshots < payload


def test_a_state_that_only_grows_is_stored_about_once() -> None:
    payload, snapshots, _ = log_and_snapshots(400, [400 * (step + 1) for step in range(2000)])
    assert snapshots <= 0.2 * payload


def test_a_large_state_that_changes_little_costs_at_most_half_its_log() -> None:
    payload, snapshots, _ = log_and_snapshots(100, [1_000_000] * 50_000)
    assert snapshots <= payload
