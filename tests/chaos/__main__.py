"""`python -m tests.chaos --rounds 100 --seed 1`: many rounds, for as long as it takes, and a table of what came of them."""

import argparse
import asyncio
import math
import random
import sys
from pathlib import Path

from tests.chaos.harms import HARMS
from tests.chaos.rounds import Report, survive


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seed", type=int, default=None, help="what chance decides follows from it; drawn if it is not given")
    parser.add_argument("--only", choices=sorted(HARMS), action="append", help="only this kind of harm; may be repeated")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no round after so long")
    parser.add_argument("--logs", type=Path, help="a folder for what the replicas print")
    asked = parser.parse_args()
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    print(f"{asked.rounds} rounds, {asked.sessions} sessions, {asked.replicas} replicas, seed {seed}", flush=True)
    harms = [asked.only[number % len(asked.only)] for number in range(asked.rounds)] if asked.only else asked.rounds
    ran = survive(
        harms,
        sessions=asked.sessions,
        seed=seed,
        replicas=asked.replicas,
        most_s=60 * asked.minutes,
        tell=lambda line: print(line, flush=True),
    )
    report = asyncio.run(ran)
    if asked.logs is not None:
        asked.logs.mkdir(parents=True, exist_ok=True)
        for number, log in enumerate(report.logs):
            (asked.logs / f"replica-{number}.log").write_text(log)
    print_table(report)
    return 1 if report.violations else 0


def print_table(report: Report) -> None:
    rows = {
        "rounds": report.harms.total(),
        "harms": ", ".join(f"{name} {count}" for name, count in sorted(report.harms.items())),
        **report.verdict.figures,
        "answers": ", ".join(f"{what}: {count}" for what, count in sorted(report.witness.answers.items())),
        "time": f"{report.took_s:.0f} s",
        "violations": len(report.violations),
    }
    print()
    for name, value in rows.items():
        print(f"{name:45} {value}")
    for violation in report.violations[:50]:
        print(f"  {violation}")


if __name__ == "__main__":
    sys.exit(main())
