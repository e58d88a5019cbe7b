import pytest

from app.executors.jobs import Usage
from app.executors.measure import ActionFigures, CpuLimits, is_cpu_bound

LIMITS = CpuLimits(cpu_s=0.02, share=0.5, proofs=2)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(0, wall_s=1.0, cpu_s=0.9, neighbours=1), True),
        (Usage(0, wall_s=1.0, cpu_s=0.2, neighbours=1), False),  # mostly waits
        (Usage(0, wall_s=8.0, cpu_s=0.9, neighbours=8), True),  # has an eighth of the GIL, and takes all of it
        (Usage(0, wall_s=8.0, cpu_s=0.2, neighbours=8), False),
        (Usage(0, wall_s=9.0, cpu_s=0.9, delayed_s=8.0), True),  # other processes had the cores
        (Usage(0, wall_s=0.015, cpu_s=0.015, neighbours=1), False),  # too short to matter
    ],
)
def test_a_call_is_cpu_bound_when_calls_like_it_would_hold_the_gil(usage: Usage, expected: bool) -> None:
    assert is_cpu_bound(usage, LIMITS) is expected


def test_figures_add_up() -> None:
    figures = ActionFigures()

    assert [figures.add(Usage(0.1, 1.0, cpu, 1), LIMITS) for cpu in (0.9, 0.1, 0.6)] == [True, False, True]
    assert (figures.calls, figures.cpu_bound_calls, figures.wall_s) == (3, 2, 3.0)
    assert (figures.waited_s, figures.cpu_s) == (pytest.approx(0.3), pytest.approx(1.6))


def test_an_action_has_proven_to_compute_while_most_of_its_last_calls_did() -> None:
    computes, waits = Usage(0, wall_s=1.0, cpu_s=0.9), Usage(0, wall_s=1.0, cpu_s=0.1)
    figures = ActionFigures()
    seen = []
    for usage in (computes, computes, waits, waits, waits, computes, computes):
        figures.add(usage, LIMITS)
        seen.append(figures.is_proven(LIMITS))

    assert seen == [False, True, True, True, False, True, True]


def test_one_heavy_call_among_many_light_ones_proves_nothing() -> None:
    computes, waits = Usage(0, wall_s=1.0, cpu_s=0.9), Usage(0, wall_s=1.0, cpu_s=0.1)
    figures = ActionFigures()
    for usage in [computes, waits, waits, waits, waits] * 5:
        figures.add(usage, LIMITS)

    assert not figures.is_proven(LIMITS)
