"""What the checker says of runs that have lost their replica, and of their ends."""

import json
from typing import Any

import pytest

from tests.chaos.checker import Verdict, check_ends, check_failover
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
