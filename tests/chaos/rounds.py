"""Rounds of harm to a cluster under load, and the judgement of what is left."""

import asyncio
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx

from tests.chaos.checker import Verdict, check, check_robbed
from tests.chaos.clients import Callers
from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.harms import GENTLE, HARMS, plan
from tests.chaos.witness import Witness

__all__ = ["Report", "survive"]

RECOVERY_LIMIT_S = 60.0  # for each replica to be ready again after a harm
FAILOVER_LIMIT_S = 10.0  # for a run to go on after its replica was lost
END_LIMIT_S = 60.0  # for every run to end when nobody asks for anything any more


@dataclass
class Report:
    """What happened in so many rounds, and what the checker says."""

    seed: int
    harms: Counter[str]
    verdict: Verdict
    witness: Witness
    took_s: float
    logs: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [*self.witness.wrong, *self.verdict.violations]


async def survive(
    rounds: int | Sequence[str],
    *,
    sessions: int,
    seed: int,
    tell: Callable[[str], None] = print,
    replicas: int = 2,
    most_s: float = math.inf,
    failover_limit_s: float = FAILOVER_LIMIT_S,
) -> Report:
    """Harm a cluster in so many rounds, or in these ways, while clients use it, and have the log checked afterwards.

    What is drawn by chance follows from `seed`; what comes of it depends on the moment. No round begins after `most_s` seconds.
    """
    began_s = time.monotonic()
    chance = random.Random(seed)
    planned = plan(rounds, chance) if isinstance(rounds, int) else rounds
    witness = Witness()
    done: Counter[str] = Counter()
    async with running_cluster(replicas) as cluster:
        callers = Callers(cluster.urls, witness, random.Random(seed + 1))
        async with aclosing(callers):
            await callers.start(sessions)
            for number, name in enumerate(planned, 1):
                if time.monotonic() - began_s > most_s:
                    break
                known = len(witness.wrong)
                await asyncio.sleep(chance.uniform(0.3, 1.5))
                harmed_s, harmed_at_s = time.monotonic(), time.time()
                await HARMS[name](cluster, witness, chance)
                over_s = time.monotonic()
                try:
                    await _ready(cluster)
                except TimeoutError:
                    witness.wrong.append(f"not every replica was ready again {RECOVERY_LIMIT_S} s after {name}")
                if name not in GENTLE:
                    witness.disturbances.append((harmed_at_s, time.time()))
                steps = sum(map(len, witness.steps.values()))
                times = f"{over_s - harmed_s:4.1f} s, ready after {time.monotonic() - over_s:4.1f} s"
                done[name] += 1
                tell(f"{number:4} {name:16} {times}; {steps} steps told")
                for wrong in witness.wrong[known:]:
                    tell(f"     {wrong}")
            tell("the clients come to their end")
            await callers.stop()
            tell("the runs come to their end")
            await _all_ended(cluster, witness)
            await _caught_up(cluster, witness)
        logs = [replica.text() for replica in cluster.replicas]
        verdict = await check(cluster.url, witness, cluster.folder, failover_limit_s)
        _look_into(logs, witness)
        check_robbed(verdict, logs, witness)
    return Report(seed, done, verdict, witness, time.monotonic() - began_s, logs)


async def _ready(cluster: Cluster) -> None:
    """Return when every replica says that it is ready, and knows of the others."""
    async with asyncio.timeout(RECOVERY_LIMIT_S), httpx.AsyncClient(timeout=RECOVERY_LIMIT_S, verify=False) as http:
        for replica in cluster.replicas:
            while not await _is_ready(http, replica.url):  # noqa: ASYNC110  # another process gives no sign
                await asyncio.sleep(0.05)
        while len(await cluster.ask("SELECT FROM replicas")) != len(cluster.replicas):  # noqa: ASYNC110  # nor does a database
            await asyncio.sleep(0.05)


async def _is_ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def _all_ended(cluster: Cluster, witness: Witness) -> None:
    until_s = time.monotonic() + END_LIMIT_S
    while left := await cluster.unfinished():
        if time.monotonic() > until_s:
            witness.wrong.append(f"{left} runs have not ended {END_LIMIT_S} s after the last request")
            return
        await asyncio.sleep(0.1)


async def _caught_up(cluster: Cluster, witness: Witness) -> None:
    """Return when every follower has seen what there is."""
    until_s = time.monotonic() + RECOVERY_LIMIT_S
    stood = {row["id"]: row["seq"] for row in await cluster.ask("SELECT id, seq FROM sessions")}
    for session, seqs in witness.followed.items():
        while not seqs or seqs[-1] < stood[session]:
            if time.monotonic() > until_s:
                witness.wrong.append(f"a follower of {session} saw steps up to {seqs[-1:]}, of {stood[session]}")
                break
            await asyncio.sleep(0.05)


def _look_into(logs: list[str], witness: Witness) -> None:
    """What a service says of itself must not be that it failed."""
    for log in logs:
        for line in log.splitlines():
            said = json.loads(line) if line.startswith("{") else {}
            # a library may complain of its database
            if said.get("level") == "error" and str(said.get("logger")).startswith(("app.", "asyncio")):
                witness.wrong.append(f"a replica says: {line[:600]}")
