import threading
import time
from contextlib import closing

import pytest

from app.executors.lateness import Cause, LoopClocks, Reading, cause_of, kept_from_gil_s

BUDGET_S = 0.1


def reading(
    at_s: float, own_s: float, others_s: float, delayed_s: float = 0.0, turns: int | None = None, is_ready: bool = False
) -> Reading:
    return Reading(at_s, own_s, own_s + others_s, delayed_s, turns, is_ready)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (reading(0.2, own_s=0.19, others_s=0), Cause.ITSELF),  # it computes
        (reading(0.8, own_s=0.1, others_s=0.7), Cause.ITSELF),  # so it does beside others, and too long by itself
        (reading(0.2, own_s=0, others_s=0, turns=1), Cause.ITSELF),  # it sleeps
        (reading(0.2, own_s=0, others_s=0.2, turns=1), Cause.ITSELF),  # so it does beside threads that compute
        (reading(0.2, own_s=0.01, others_s=0.19, turns=40), Cause.THREADS),  # it asks for the GIL, again and again
        (
            reading(0.2, own_s=0.01, others_s=0.06, delayed_s=0.01, turns=30),
            Cause.THREADS,
        ),  # and they share the cores with others
        (reading(0.2, own_s=0.03, others_s=0, delayed_s=0.17, turns=9), Cause.MACHINE),
        (reading(0.2, own_s=0, others_s=0, turns=1, is_ready=True), Cause.MACHINE),  # no core for it all the time
        (reading(0.2, own_s=0.02, others_s=0.01, turns=90), Cause.ITSELF),  # many short waits in a row
        (reading(0.2, own_s=0, others_s=0), Cause.ITSELF),  # where the system counts no turns
    ],
)
def test_a_loop_is_late_by_its_own_doing_or_by_that_of_others(now: Reading, expected: Cause) -> None:
    assert cause_of(reading(0, 0, 0, turns=0), now, BUDGET_S) is expected


def test_a_look_is_too_early_to_tell_a_sleeper_from_who_waits_for_the_gil() -> None:
    assert cause_of(reading(0, 0, 0, turns=0), reading(0.01, 0, 0.01, turns=1), BUDGET_S) is Cause.THREADS


def test_a_watcher_that_comes_late_has_waited_for_the_gil_or_for_a_core() -> None:
    before = Reading(1.0, 0, 0)

    assert kept_from_gil_s(before, Reading(1.3, 0, 0), 1.05) == pytest.approx(0.25)
    assert kept_from_gil_s(before, Reading(1.3, 0, 0, watcher_delayed_s=0.2), 1.05) == pytest.approx(0.05)
    assert kept_from_gil_s(before, Reading(1.04, 0, 0), 1.05) == 0


def turned(reading: Reading) -> tuple[int | None, float]:
    return reading.loop_turns, reading.loop_cpu_s


def test_the_clocks_tell_a_thread_that_computes_from_one_that_sleeps() -> None:
    awake, over = threading.Event(), threading.Event()

    def work() -> None:
        while not awake.is_set():
            sum(range(100))
        over.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert (thread.ident, thread.native_id) != (None, None)
    with closing(LoopClocks(thread.ident or 0, thread.native_id or 0)) as clocks:
        began = clocks.read()
        while (computed := clocks.read()).loop_cpu_s < began.loop_cpu_s + 0.02:
            time.sleep(0.005)
        awake.set()
        asleep, later, end_s = computed, clocks.read(), time.monotonic() + 60
        while (later.is_ready or turned(asleep) != turned(later)) and time.monotonic() < end_s:  # it is on its way to sleep
            time.sleep(0.05)
            asleep, later = later, clocks.read()
        over.set()
        thread.join()
        assert cause_of(began, computed, budget_s=0.02) is Cause.ITSELF
        assert turned(asleep) == turned(later)
        assert not later.is_ready
