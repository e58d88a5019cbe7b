"""What is known about each sync action from its calls, and what follows from it. Decides; carries nothing out."""

from dataclasses import dataclass

from app.executors.jobs import Usage

__all__ = ["ActionFigures", "CpuLimits", "is_cpu_bound"]


@dataclass(frozen=True, slots=True)
class CpuLimits:
    """When a call counts as CPU-bound, and when an action has proven to be.

    A call that takes less than `cpu_s` of CPU cannot hold the others up for long, whatever its share; it would also not
    repay the way to another process. An action is proven by `proofs` such calls: the first may only have been warming up.
    """

    cpu_s: float = 0.02
    share: float = 0.5
    proofs: int = 2


MEMORY = 0.25
"""What one call weighs in the share of the last few: three of the other kind turn it round."""


QUICK_S = 0.001
ENOUGH = 8  # quick calls, for the next one to be expected to be quick, too
MEMORABLE = 64


@dataclass(slots=True)
class ActionFigures:
    """The calls of one action so far, on every rung. Seconds."""

    calls: int = 0
    waited_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    cpu_bound_calls: int = 0
    quick_calls: int = 0  # lately, up to MEMORABLE
    lately_bound: float = 0.0  # the share of CPU-bound calls, the last few counting most

    def add(self, usage: Usage, limits: CpuLimits) -> bool:
        """Take note of one call; return whether it was CPU-bound."""
        self.calls += 1
        self.waited_s += usage.waited_s
        self.wall_s += usage.wall_s
        self.cpu_s += usage.cpu_s
        if usage.wall_s < QUICK_S:
            self.quick_calls = min(self.quick_calls + 1, MEMORABLE)
        else:  # a machine that is busy elsewhere holds up a quick call now and then, but not for so long
            self.quick_calls = self.quick_calls // 2 if usage.wall_s < 10 * QUICK_S else 0
        bound = is_cpu_bound(usage, limits)
        self.cpu_bound_calls += bound
        self.lately_bound += (bound - self.lately_bound) * (1.0 if self.calls == 1 else MEMORY)
        return bound

    @property
    def is_quick(self) -> bool:
        """Whether the last calls were over at once."""
        return self.quick_calls >= ENOUGH

    def is_proven(self, limits: CpuLimits) -> bool:
        """Whether the action computes, by habit and still."""
        return self.cpu_bound_calls >= limits.proofs and self.lately_bound >= 0.5


def is_cpu_bound(usage: Usage, limits: CpuLimits) -> bool:
    """Whether a call mostly computes: were all its neighbours like it, the GIL would be taken for `share` of the time.

    The share of the clock alone would not do: eight threads that only compute get an eighth of the GIL each, and on a busy
    machine other processes have the cores.
    """
    wanted_s = usage.cpu_s + usage.delayed_s
    return usage.cpu_s >= limits.cpu_s and wanted_s * usage.neighbours >= limits.share * usage.wall_s
