"""What the checker says of runs that have lost their replica."""

import pytest

from tests.chaos.checker import Verdict, check_failover
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
