"""The time of day of a process: what the database's clock or the machine's says, without its jumps."""

from dataclasses import dataclass

import pytest

from app.system.clocks import Clock, current_time_s, using_clock


@dataclass
class Machine:
    """A machine whose clock can be set."""

    ticks_s: float = 500.0
    ahead_s: float = 1_000_000.0  # of its ticks

    def clock(self) -> Clock:
        return Clock(lambda: self.ticks_s + self.ahead_s, lambda: self.ticks_s)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize("jump_s", [30.0, -30.0, 86_400.0, -86_400.0])
def test_a_jump_of_the_machines_clock_is_followed_when_it_has_lasted_for_a_minute(machine: Machine, jump_s: float) -> None:
    clock = machine.clock()
    machine.ahead_s += jump_s
    for _ in range(59):
        machine.ticks_s += 1.0
        assert clock.now_s() == machine.ticks_s + 1_000_000.0
    machine.ticks_s += 2.0
    assert clock.now_s() == machine.ticks_s + 1_000_000.0 + jump_s


def test_a_jump_that_is_taken_back_is_never_followed(machine: Machine) -> None:
    clock = machine.clock()
    for ahead_s in (1_000_000.0, 1_086_400.0, 1_000_000.0, 999_970.0, 1_000_000.0):
        machine.ahead_s = ahead_s
        for _ in range(50):
            machine.ticks_s += 1.0
            assert clock.now_s() == machine.ticks_s + 1_000_000.0


def test_a_clock_that_is_steered_is_followed_at_once(machine: Machine) -> None:
    clock = machine.clock()
    for _ in range(100):
        machine.ticks_s += 10.0
        machine.ahead_s += 0.1
        assert clock.now_s() == machine.ticks_s + machine.ahead_s


@pytest.mark.parametrize("skew_s", [30.0, -30.0])
def test_the_databases_time_counts_more_than_the_machines(machine: Machine, skew_s: float) -> None:
    clock = machine.clock()
    clock.tell(machine.ticks_s + 1_000_000.0 - skew_s, machine.ticks_s - 0.001, machine.ticks_s + 0.001)
    machine.ticks_s += 100.0
    machine.ahead_s += 7.0
    assert clock.now_s() == pytest.approx(machine.ticks_s + 1_000_000.0 - skew_s, abs=0.001)


def test_an_answer_that_took_long_does_not_move_the_time(machine: Machine) -> None:
    clock = machine.clock()
    clock.tell(2_000.0, 499.999, 500.001)
    clock.tell(2_010.0, 500.0, 520.0)  # shown at some moment between the two: 2,000 at 500 agrees with that
    machine.ticks_s = 520.0
    assert clock.now_s() == pytest.approx(2_020.0, abs=0.01)


def test_a_test_can_give_the_process_another_clock(machine: Machine) -> None:
    with using_clock(machine.clock()):
        assert current_time_s() == 1_000_500.0
    assert current_time_s() > 1_700_000_000.0


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("back_s", [2.0, 3_600.0])
def test_event_ids_go_on_as_if_the_clock_had_not_been_set_back_until_it_has_caught_up(
    is_told: bool, back_s: float, machine: Machine
) -> None:
    clock = machine.clock()

    def ids_after(passed_s: float) -> float:
        machine.ticks_s += passed_s
        clock.now_s()
        if is_told:
            clock.tell(machine.ticks_s + machine.ahead_s, machine.ticks_s, machine.ticks_s)
        return clock.event_time_us() / 1e6

    ids_after(0.0)
    machine.ahead_s -= back_s
    for _ in range(70):  # the machine's own clock is believed after a minute
        assert ids_after(1.0) == pytest.approx(machine.ticks_s + 1_000_000.0)
    assert clock.now_s() == pytest.approx(machine.ticks_s + machine.ahead_s)
    assert clock.ids_ahead_s == pytest.approx(back_s)
    machine.ahead_s += back_s + 5.0
    for _ in range(70):
        ids_after(1.0)
    assert ids_after(1.0) == pytest.approx(clock.now_s()) == pytest.approx(machine.ticks_s + machine.ahead_s)


def test_event_ids_follow_a_clock_that_is_steered_back(machine: Machine) -> None:
    clock = machine.clock()
    for _ in range(100):
        machine.ticks_s += 10.0
        machine.ahead_s -= 0.1
        assert clock.event_time_us() / 1e6 == pytest.approx(machine.ticks_s + machine.ahead_s)


def test_event_ids_begin_above_those_that_others_have_given_out(machine: Machine) -> None:
    clock = machine.clock()
    clock.keep_ids_ahead(30.0)
    clock.keep_ids_ahead(10.0)
    assert clock.event_time_us() == 1_000_530 * 10**6
    assert clock.now_s() == 1_000_500.0
