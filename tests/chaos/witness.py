"""What the clients were told, for the checker to hold against the log."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["LAST", "Told", "Witness"]

LAST = ("run.finished", "run.failed", "run.cancelled")  # each of them is the last event of its run


class Told(NamedTuple):
    """An event, as a client saw it."""

    id: int
    kind: str
    data: dict[str, Any]


@dataclass
class Witness:
    """Everything that an answer or an event has promised, and everything that should not have come."""

    steps: dict[str, dict[int, tuple[str, Any]]] = field(default_factory=lambda: defaultdict(dict))  # (action, result) by seq
    accepted: dict[str, str] = field(default_factory=dict)  # run id -> session, of runs answered with 202
    ended: dict[str, tuple[str, int]] = field(default_factory=dict)  # run id -> status and steps that a client was told of
    wanted: dict[str, int] = field(default_factory=Counter)  # steps of answered requests, in sessions of one careful client
    events: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # ids that a follower of a session saw
    followed: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # seqs of its `step.finished`
    ends: dict[str, tuple[int, str, int]] = field(default_factory=dict)  # run id -> id, status and steps of its last event
    orphaned: list[tuple[str, float]] = field(default_factory=list)  # run id, and when it lost its replica
    setbacks: list[float] = field(default_factory=list)  # when somebody who may just go on with such a run was kept from it
    disturbances: list[tuple[float, float]] = field(default_factory=list)  # from and until when replicas may lose what they have
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def set_back(self) -> None:
        """A replica is taken away, or the database is there again."""
        self.setbacks.append(time.time())

    def told(self, session: str, seq: int, action: str, result: Any) -> None:
        """A client has been told that this step is committed."""
        known = self.steps[session].setdefault(seq, (action, result))
        if known != (action, result):
            self.wrong.append(f"step {seq} of {session} was told twice, and differently")

    def saw(self, over: set[str], event_id: int, kind: str, data: dict[str, Any]) -> None:
        """A follower of a session has seen an event, after the ends of the runs in `over`, to which that of its run is added."""
        run_id = data.get("run_id")
        if run_id is None:
            return
        if run_id in over:
            self.wrong.append(f"a follower saw {kind} of run {run_id} after its end")
        if kind in LAST:
            over.add(run_id)
            told = (event_id, kind.rpartition(".")[2], data["steps"])
            known = self.ends.setdefault(run_id, told)
            if known != told:
                self.wrong.append(f"the end of run {run_id} was told as {known} and as {told}")

    def ran(self, run_id: str, status: str, steps: int) -> None:
        """A client has been told how a run ended."""
        known = self.ended.setdefault(run_id, (status, steps))
        if known != (status, steps):
            self.wrong.append(f"run {run_id} ended as {known} and as {(status, steps)}")
