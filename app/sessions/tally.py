"""What the runs of this process have come to. Names of machines, statuses and reasons only: never an id, never a value."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.sessions.run import Run

__all__ = ["RunTally"]


class RunTally:
    """Counts runs when they end, and the steps that they have committed here."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str, str]] = Counter()
        self._steps: Counter[str] = Counter()

    def take(self, run: "Run") -> None:
        """Count a run that is over. One that is left to somebody else has the status `left`."""
        machine, end = run.live.machine.name, run.journal.end
        self.ended[(machine, "left", "") if end is None else (machine, end.status.value, end.reason or "")] += 1
        self._steps[machine] += run.journal.steps_here

    def steps(self, active: "Iterable[Run]") -> Mapping[str, int]:
        """Return the committed steps by machine, those of runs under way among them."""
        steps = self._steps.copy()
        for run in active:
            steps[run.live.machine.name] += run.journal.steps_here
        return steps
