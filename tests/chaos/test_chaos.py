"""Two replicas over one PostgreSQL under load, harmed in each way that a data centre knows; then the log is read from outside.

`make chaos` does the same a hundred times, with two hundred sessions.
"""

import pytest

from tests.chaos.rounds import survive

SESSIONS = 24
SEED = 20261125
FAILOVER_LIMIT_S = 60.0  # `make chaos` holds it to ten; here other tests run at the same time, or another build


@pytest.mark.timeout(400)  # starting four services takes long on a machine that does other things as well
async def test_nothing_is_lost_doubled_or_left_in_nine_rounds_of_harm() -> None:
    rounds = ["kill", "cut", "crash_database", "lose_answers", "freeze", "restart", "defy", "fill", "hold"]
    told: list[str] = [f"seed {SEED}"]
    report = await survive(rounds, sessions=SESSIONS, seed=SEED, tell=told.append, failover_limit_s=FAILOVER_LIMIT_S)
    assert report.violations == [], "\n".join(told)
    figures = report.verdict.figures
    assert figures["sessions"] == SESSIONS
    assert figures["steps that clients were told of"] > SESSIONS
