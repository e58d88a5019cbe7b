"""Reads the log from outside and says what is wrong with it: plain SQL, and a decoder of its own.

Nothing here is imported from the service, but for the text that zlib begins with: what it proves does not rest on the code
that it judges.
"""

import json
import math
import uuid
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg

from app.persistence.dictionary import DICTIONARY
from tests.chaos.witness import Witness

__all__ = ["Verdict", "blocked_run_faults", "check", "check_calls", "check_ends", "check_failover", "check_robbed"]

ENDED = ("finished", "failed", "cancelled")
_TAKEN_FOR_DEAD = ("a replica is dead", "this replica was taken for dead")
_ECHO_S = 5.0  # a harm is over when every replica is ready; what it has broken may show a little later


@dataclass
class Verdict:
    """What was found. Nothing is wrong if `violations` is empty; `figures` say how much was looked at."""

    violations: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.violations.append(otherwise)


@dataclass
class Step:
    seq: int
    kind: str
    action: str
    run_id: str
    operations: list[Any]
    result: Any
    first_event_id: int
    event_id: int
    finished_at_s: float
    run: dict[str, Any] | None  # that ended with this step, and is stored in it


async def check(url: str, witness: Witness, ledger: Path, failover_limit_s: float) -> Verdict:
    """Hold the log at `url` against what clients were told, and against the traces that the actions left in `ledger`.

    Runs that lost their replica are to go on within `failover_limit_s`, counted from the last harm to who could go on with them.
    """
    verdict = Verdict()
    connection = await asyncpg.connect(url)
    try:
        sessions = {row["id"]: row for row in await connection.fetch("SELECT * FROM sessions")}
        steps = {name: await _steps(connection, row["key"]) for name, row in sessions.items()}
        snapshots = {name: await _snapshots(connection, row["key"]) for name, row in sessions.items()}
        runs = {row["id"]: row for row in await connection.fetch("SELECT * FROM runs")}
        living = await connection.fetchval("SELECT count(*) FROM replicas")
    finally:
        await connection.close()
    for name, row in sessions.items():
        for step in steps[name]:
            if step.run is not None:
                verdict.expect(step.run_id not in runs, f"run {step.run_id} is stored in two places")
                runs[step.run_id] = {"session_key": row["key"], **step.run}
    names = {row["key"]: name for name, row in sessions.items()}
    for name, row in sessions.items():
        _check_order(verdict, name, row, steps[name])
        _check_states(verdict, name, row, steps[name], snapshots[name])
        _check_told(verdict, name, steps[name], witness)
        if name in witness.wanted:
            found = sum(step.kind == "action" for step in steps[name])
            verdict.expect(found == witness.wanted[name], f"{name} was to take {witness.wanted[name]} steps, and took {found}")
    _check_runs(verdict, runs, names, steps, witness)
    check_failover(verdict, runs, steps, witness, failover_limit_s)
    _check_effects(verdict, steps, ledger)
    check_calls(verdict, (ledger / "calls").read_text().splitlines(), witness)
    verdict.figures |= {
        "sessions": len(sessions),
        "steps committed": sum(map(len, steps.values())),
        "steps that clients were told of": sum(map(len, witness.steps.values())),
        "events seen by followers": sum(map(len, witness.events.values())),
        "replicas known at the end": living,
    }
    return verdict


def _check_order(verdict: Verdict, name: str, session: Any, steps: list[Step]) -> None:
    seqs = [step.seq for step in steps]
    verdict.expect(
        seqs == list(range(session["seq"] + 1)), f"{name} stands at {session['seq']}, and has the steps {_brief(seqs)}"
    )
    ids = [each for step in steps for each in dict.fromkeys((step.first_event_id, step.event_id))]
    verdict.expect(ids == sorted(set(ids)), f"the event ids of {name} do not grow")
    verdict.expect(not ids or session["last_event_id"] >= ids[-1], f"{name} says that its last event was before its last step")


def _check_states(verdict: Verdict, name: str, session: Any, steps: list[Step], snapshots: dict[int, Any]) -> None:
    """Replay the operations from the beginning: each snapshot is met, and each step ran on the state that was before it."""
    state = dict(snapshots.get(-1) or {})
    verdict.expect(state == {"n": 0, "chain": "", "paid": []}, f"{name} does not begin as it was created")
    for step in steps:
        chain = state.get("chain")
        state = _applied(state, step.operations)
        if step.kind == "action":
            expected = blake2b(f"{chain} {step.seq} {step.action}".encode(), digest_size=12).hexdigest()
            verdict.expect(state["chain"] == expected, f"step {step.seq} of {name} did not run on the state before it")
            verdict.expect(step.result == {"n": state["n"], "chain": expected}, f"step {step.seq} of {name} has another result")
        if step.seq in snapshots:
            verdict.expect(snapshots[step.seq] == state, f"the snapshot of {name} at {step.seq} is not what the log makes")
    verdict.expect(session["snapshot_seq"] in snapshots, f"{name} points to a snapshot that is not there")


def _check_told(verdict: Verdict, name: str, steps: list[Step], witness: Witness) -> None:
    for seq, told in witness.steps[name].items():
        found = (steps[seq].action, steps[seq].result) if seq < len(steps) else None
        verdict.expect(found == told, f"step {seq} of {name} was told as {told}, and is {found}")
    ids, seqs = witness.events[name], witness.followed[name]
    turns = [(before, after) for before, after in pairwise(ids) if after <= before]
    verdict.expect(not turns, f"a follower of {name} saw events twice or in disorder: {turns[:3]} of {len(ids)}")
    # with `durability: exit` a step is shown before it is stored: one that was lost is taken, and seen, again
    if name.startswith("quarrels"):
        seqs = sorted(set(seqs))
    verdict.expect(seqs == list(range(len(seqs))), f"a follower of {name} saw {_unlike_a_count(seqs)}")


def _check_runs(
    verdict: Verdict, runs: dict[str, Any], names: dict[int, str], steps: dict[str, list[Step]], witness: Witness
) -> None:
    taken = Counter(step.run_id for each in steps.values() for step in each if step.kind == "action")
    for run_id, run in runs.items():
        name, status = names[run["session_key"]], run["status"]
        ended = status in ENDED and run["finished_at"] is not None and run["finished_event_id"] is not None
        verdict.expect(ended, f"run {run_id} of {name} is {status} for ever")
        verdict.expect(run.get("reason") != "shutdown", f"run {run_id} of {name} was ended by the end of its replica")
        verdict.expect(
            taken[run_id] == run["steps"], f"run {run_id} of {name} counts {run['steps']} steps, and took {taken[run_id]}"
        )
    for run_id, name in witness.accepted.items():
        verdict.expect(run_id in runs, f"run {run_id} of {name} was accepted, and is unknown")
    check_ends(verdict, runs, witness)
    for run_id, told in witness.ended.items():
        found = (runs[run_id]["status"], runs[run_id]["steps"]) if run_id in runs else None
        verdict.expect(found == told, f"run {run_id} was told to have ended as {told}, and is {found}")
    verdict.expect(set(taken) <= set(runs), "there are steps of runs that are unknown")
    verdict.figures["runs"] = dict(Counter(run["status"] for run in runs.values()))
    verdict.figures["runs that were taken up again"] = sum(run["attempts"] > 0 for run in runs.values())
    verdict.figures["most attempts at one run without getting on"] = max((run["attempts"] for run in runs.values()), default=0)


def check_ends(verdict: Verdict, runs: dict[str, Any], witness: Witness) -> None:
    """A run that is stored has the end that followers were told, under that id; no outage has ended one that had taken steps."""
    for run_id, told in witness.ends.items():
        run = runs.get(run_id)
        if run is not None:  # else nothing of it was ever stored
            found = (run["finished_event_id"], run["status"], run["steps"])
            verdict.expect(found == told, f"the end of run {run_id} was told as {told}, and is {found}")
    for run_id, run in runs.items():
        error = None if run["status"] != "failed" or not run["steps"] else _document(run["error"])
        kind = error["type"] if error else None
        verdict.expect(kind in (None, "step-failed"), f"run {run_id} has taken {run['steps']} steps, and ended as {kind}")


def check_failover(
    verdict: Verdict, runs: dict[str, Any], steps: dict[str, list[Step]], witness: Witness, limit_s: float
) -> None:
    """Each run that has lost its replica has gone on in time, or had nothing more to do."""
    signs: dict[str, list[float]] = defaultdict(list)
    for each in steps.values():
        for step in each:
            signs[step.run_id].append(step.finished_at_s)
    waits: list[float] = []
    for run_id, lost_at_s in witness.orphaned:
        ended_at_s = runs[run_id]["finished_at"] or math.inf
        if ended_at_s <= lost_at_s:
            continue  # its end was on its way to the database when the replica was lost
        found = [at_s for at_s in (*signs[run_id], ended_at_s) if lost_at_s < at_s < math.inf]
        if found:
            until_s = min(found)
            waits.append(until_s - max(at_s for at_s in (lost_at_s, *witness.setbacks) if at_s < until_s))
            verdict.expect(waits[-1] <= limit_s, f"run {run_id} stood still for {waits[-1]:.1f} s")
        else:
            verdict.violations.append(f"run {run_id} never went on after its replica was lost")
    verdict.figures["runs that lost their replica"] = len(waits)
    verdict.figures["longest until such a run went on"] = f"{max(waits, default=0.0):.1f} s"


def _check_effects(verdict: Verdict, steps: dict[str, list[Step]], ledger: Path) -> None:
    calls: Counter[tuple[str, int, str]] = Counter()
    for line in (ledger / "calls").read_text().splitlines():
        action, session, seq, token, *_ = line.split()
        verdict.expect(token == f"{session}:{seq}", f"step {seq} of {session} was called with the token {token}")
        calls[session, int(seq), action] += 1
    paid: dict[str, set[str]] = defaultdict(set)
    for folder in (ledger / "payments").iterdir():
        paid[folder.name] = {payment.name for payment in folder.iterdir()}
    committed: Counter[int] = Counter()
    for name, each in steps.items():
        for step in each:
            if step.kind == "action":
                times = calls[name, step.seq, step.action]
                committed[times] += 1
                verdict.expect(times >= 1, f"step {step.seq} of {name} is committed, and was never called")
                if step.action == "pay":
                    verdict.expect(f"{name}:{step.seq}" in paid[name], f"step {step.seq} of {name} was not paid")
        due = {f"{name}:{step.seq}" for step in each if step.action == "pay"}
        early = {token for token in paid[name] - due if int(token.rpartition(":")[2]) > len(each) - 1}
        extra = paid[name] - due - early
        if not any(step.kind == "rollback" for step in each):  # a payment that was rolled back stays made
            verdict.expect(not extra, f"{name} was paid without a step: {_brief(sorted(extra))}")
    verdict.figures["steps by the number of calls"] = dict(sorted(committed.items()))
    verdict.figures["payments"] = sum(map(len, paid.values()))


def blocked_run_faults(
    ended: dict[str, Any], before: tuple[Any, ...], after: tuple[Any, ...], calls: list[tuple[int, int]], attempts: int
) -> list[str]:
    """What is wrong with a run whose action has blocked its process for a while, and with the claim on its session.

    `calls` are the steps and processes of the action's calls; `attempts` were counted because a replica was lost.
    """
    found = []
    if before != after:
        found.append(f"a session was robbed: {before} had it while its action was at work, and {after} after that")
    if (ended["status"], ended["steps"]) != ("finished", 1):
        found.append(f"run {ended['id']} was blocked for a while, and is {ended['status']} with {ended['steps']} steps")
    if len(calls) > ended["steps"] + attempts:
        found.append(f"an action was called {len(calls)} times for {ended['steps']} steps and {attempts} attempts: {calls}")
    return found


def check_robbed(verdict: Verdict, logs: list[str], witness: Witness) -> None:
    """No replica was taken for dead but after a harm that had made it silent, or kept it from the database."""
    for log in logs:
        for line in log.splitlines():
            said = json.loads(line) if line.startswith("{") else {}
            if str(said.get("message")).startswith(_TAKEN_FOR_DEAD):
                at_s = datetime.fromisoformat(said["timestamp"]).timestamp()
                verdict.expect(_was_disturbed(witness, at_s, at_s), f"a replica that lived was robbed: {line[:300]}")


def check_calls(verdict: Verdict, calls: list[str], witness: Witness) -> None:
    """No step of a careful client was called twice but after a harm that had taken its first call away."""
    first_s: dict[tuple[str, ...], float] = {}
    for line in calls:
        action, session, seq, _, run_id, called_at_s = line.split()
        if session.startswith("quarrels"):
            continue  # they interrupt each other, and go back
        at_s = float(called_at_s)
        began_s = first_s.setdefault((action, session, seq, run_id), at_s)
        verdict.expect(
            at_s == began_s or _was_disturbed(witness, began_s, at_s),
            f"step {seq} of {session} was called twice, and nothing had happened",
        )


def _was_disturbed(witness: Witness, from_s: float, until_s: float) -> bool:
    return any(began_s <= until_s and from_s <= over_s + _ECHO_S for began_s, over_s in witness.disturbances)


async def _steps(connection: Any, key: int) -> list[Step]:
    rows = await connection.fetch("SELECT * FROM steps WHERE session_key = $1 ORDER BY seq, event_id", key)
    found = []
    for row in rows:
        operations, result, run = _payload(row["payload"])
        run_id = row["run_id"] if row["ended_run"] is None else str(uuid.UUID(bytes=row["ended_run"]))
        place = (row["seq"], row["kind"], row["action"], run_id)
        ended = None if run is None else _run(run, row["event_id"])
        found.append(Step(*place, operations, result, row["first_event_id"], row["event_id"], row["finished_at"], ended))
    return found


def _run(document: list[Any], event_id: int) -> dict[str, Any]:
    _, _, after, _, distance, steps, _ = document
    finished_at_s = (event_id + after + distance) / 1e6 if isinstance(distance, int) else distance
    finished = {"status": "finished", "finished_at": finished_at_s, "finished_event_id": event_id + after}
    return {**finished, "steps": steps, "attempts": 0}


async def _snapshots(connection: Any, key: int) -> dict[int, Any]:
    rows = await connection.fetch("SELECT seq, state FROM snapshots WHERE session_key = $1", key)
    return {row["seq"]: _document(row["state"]) for row in rows}


def _payload(blob: bytes) -> tuple[list[Any], Any, Any]:
    """The operations of a step; its result, parts of which may be given as the number of an operation; and its run."""
    operations, result, shared, run, *_ = [*_document(blob), None, None]
    match shared:
        case int(index):
            result = operations[index][2]
        case dict(references):
            result |= {name: operations[index][2] for name, index in references.items()}
    return operations, result, run


def _document(blob: bytes) -> Any:
    """A blob is one byte that says how to read it, and JSON, deflated or not."""
    inflated = {0x11: zlib.decompress, 0x21: lambda rest: zlib.decompressobj(zdict=DICTIONARY).decompress(rest)}
    return json.loads(inflated.get(blob[0], bytes)(blob[1:]))


def _applied(state: dict[str, Any], operations: list[Any]) -> dict[str, Any]:
    after = dict(state)
    for kind, key, *value in operations:
        match kind:
            case "s":
                after[key] = value[0]
            case "a":
                after[key] = [*after.get(key, []), value[0]]
            case "e":
                after[key] = [*after.get(key, []), *value[0]]
            case "i":
                after[key] = after.get(key, 0) + value[0]
            case "d":
                after.pop(key, None)
            case "p":
                after = {**after, key: _edited(after[key], value[0])}
            case _:
                raise AssertionError(f"an operation of the unknown kind {kind!r}")
    return after


def _edited(value: Any, edits: list[Any]) -> Any:
    """The value after edits of what it holds. The machine of these tests has flat lists and texts."""
    for edit in edits:
        match edit:
            case ["x", [], int(index), int(removed), [*items]]:
                value = [*value[:index], *items, *value[index + removed :]]
            case ["t", [], str(text)]:
                value += text
            case _:
                raise AssertionError(f"an edit that is unknown here: {edit}")
    return value


def _unlike_a_count(seqs: list[int]) -> str:
    breaks = [f"step {after} after step {before}" for before, after in pairwise([-1, *seqs]) if after != before + 1]
    return ", ".join(breaks[:6])


def _brief(values: list[Any]) -> str:
    return str(values) if len(values) <= 12 else f"{str(values[:6])[:-1]}, …, {str(values[-6:])[1:]}"
