"""Repeating a measurement fairly, and reducing the repeats to a figure."""

import math
from collections.abc import Callable, Mapping, Sequence

__all__ = ["alternate", "percentile"]


def alternate(rounds: int, subjects: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Return `rounds` figures per subject, measured in turns.

    A machine that grows slower or faster meanwhile does so for every subject alike. One unmeasured turn goes before.
    """
    figures: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(rounds + 1):
        for name, measure in subjects.items():
            figure = measure()
            if turn > 0:
                figures[name].append(figure)
    return figures


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
