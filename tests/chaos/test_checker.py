"""What the checker says of runs that have lost their replica, and of their ends."""

import json
from typing import Any

import pytest

from tests.chaos.checker import Verdict, blocked_run_faults, check_calls, check_ends, check_failover, check_robbed
from tests.chaos.witness import Witness

LOST_AT_S = 100.0


@pytest.mark.parametrize(
    ("finished_at_s", "violations", "lost"),
    [
        (99.9, [], 0),  # its end was on its way to the database
        (109.0, [], 1),
        (111.0, ["run r stood still for 11.0 s"], 1),
        (None, ["run r never went on after its replica was lost"], 0),
    ],
)
def test_a_run_that_has_lost_its_replica_is_to_go_on_in_time_if_it_has_not_ended(
    finished_at_s: float | None, violations: list[str], lost: int
) -> None:
    verdict, witness = Verdict(), Witness(orphaned=[("r", LOST_AT_S)])
    check_failover(verdict, {"r": {"finished_at": finished_at_s}}, {}, witness, limit_s=10.0)
    assert verdict.violations == violations
    assert verdict.figures["runs that lost their replica"] == lost


def run(status: str, steps: int, event_id: int, error: str | None = None) -> dict[str, Any]:
    blob = None if error is None else b"\x10" + json.dumps({"type": error}).encode()
    return {"status": status, "steps": steps, "finished_event_id": event_id, "error": blob}


@pytest.mark.parametrize(
    ("told", "stored", "violations"),
    [
        ((7, "finished", 2), run("finished", 2, 7), 0),
        ((7, "finished", 2), run("finished", 2, 8), 1),  # one end, two ids
        ((7, "failed", 1), run("finished", 2, 7), 1),
        ((7, "finished", 1), run("finished", 2, 7), 1),
        ((7, "failed", 2), run("failed", 2, 7, "step-failed"), 0),
        ((7, "failed", 2), run("failed", 2, 7, "step-refused"), 1),  # it had to go on
        ((7, "failed", 0), run("failed", 0, 7, "step-refused"), 0),
        ((7, "failed", 0), None, 0),  # nothing of it was stored
    ],
)
def test_a_run_has_one_end_and_that_was_told(told: tuple[int, str, int], stored: dict[str, Any] | None, violations: int) -> None:
    verdict, witness = Verdict(), Witness(ends={"r": told})
    check_ends(verdict, {} if stored is None else {"r": stored}, witness)
    assert len(verdict.violations) == violations


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([(1, "run.started"), (2, "run.finished")], 0),
        ([(1, "run.started"), (2, "run.failed"), (3, "step.started")], 1),
        ([(1, "run.failed"), (2, "run.failed")], 2),  # after its end, and under another id
    ],
)
def test_nothing_of_a_run_comes_after_its_end(events: list[tuple[int, str]], wrong: int) -> None:
    witness, over = Witness(), set[str]()
    for event_id, kind in events:
        witness.saw(over, event_id, kind, {"run_id": "r", "steps": 1})
    assert len(witness.wrong) == wrong


@pytest.mark.parametrize(
    ("after", "status", "calls", "attempts", "faults"),
    [
        (("u", "a", 1), "finished", 1, 0, []),
        (("u", "a", 1), "finished", 2, 1, []),  # its process was killed
        (("u", "a", 1), "finished", 2, 0, ["called"]),
        (("v", "b", 2), "finished", 2, 1, ["robbed"]),
        (("u", "a", 2), "finished", 1, 0, ["robbed"]),  # it was lost, and taken back
        (("u", "a", 1), "failed", 1, 0, ["blocked", "called"]),
    ],
)
def test_an_action_that_blocks_its_process_is_called_once_and_its_session_stays(
    after: tuple[str, str, int], status: str, calls: int, attempts: int, faults: list[str]
) -> None:
    ended = {"id": "r", "status": status, "steps": 1 if status == "finished" else 0}
    found = blocked_run_faults(ended, ("u", "a", 1), after, [(0, 77)] * calls, attempts)
    assert len(found) == len(faults)
    assert all(fault in said for fault, said in zip(faults, found, strict=True))


@pytest.mark.parametrize(
    ("disturbances", "violations"),
    [
        ([], 1),
        ([(90.0, 110.0)], 0),
        ([(104.0, 110.0)], 0),  # the first call was before it, the second after
        ([(10.0, 20.0)], 1),
        ([(300.0, 310.0)], 1),
    ],
)
def test_a_replica_is_taken_for_dead_and_a_step_called_twice_only_after_a_harm(
    disturbances: list[tuple[float, float]], violations: int
) -> None:
    witness = Witness(disturbances=disturbances)
    buried = {"message": "a replica is dead; its sessions are free", "timestamp": "1970-01-01T00:01:45Z"}
    robbed, doubled = Verdict(), Verdict()
    check_robbed(robbed, ["Stepwell\n" + json.dumps(buried)], witness)
    check_calls(doubled, ["note s 3 s:3 r 100.0", "note s 4 s:4 r 100.0", "note s 3 s:3 r 105.0"], witness)
    assert (len(robbed.violations), len(doubled.violations)) == (violations, violations)
