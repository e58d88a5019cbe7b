"""When something is due."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.sessions.errors import ScheduleInvalid
from app.sessions.rhythm import Rhythm


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def times(rhythm: Rhythm, after: str, count: int) -> list[str]:
    """The next times after that one, as they are read in UTC."""
    found, now_s = [], at(after)
    for _ in range(count):
        due_s = rhythm.next_after(now_s, at("2026-01-01T00:00:00Z"))
        if due_s is None:
            break
        assert due_s > now_s
        found.append(datetime.fromtimestamp(due_s, UTC).strftime("%m-%d %H:%M:%S"))
        now_s = due_s
    return found


def test_cron_follows_the_clock_of_its_place() -> None:
    weekdays = Rhythm(cron="30 7 * * MON-FRI", time_zone="Europe/Berlin")
    assert times(weekdays, "2026-03-26T12:00:00Z", 3) == ["03-27 06:30:00", "03-30 05:30:00", "03-31 05:30:00"]
    assert times(Rhythm(cron="*/20 * * * *"), "2026-01-31T23:35:00.5Z", 2) == ["01-31 23:40:00", "02-01 00:00:00"]
    left_out = Rhythm(cron="30 2 * * *", time_zone="Europe/Berlin")  # there is no 02:30 on the 29th of March
    assert times(left_out, "2026-03-28T12:00:00Z", 2) == ["03-29 01:00:00", "03-30 00:30:00"]
    twice = Rhythm(cron="30 2 * * *", time_zone="Europe/Berlin")  # and two on the 25th of October
    assert times(twice, "2026-10-24T12:00:00Z", 2) == ["10-25 00:30:00", "10-26 01:30:00"]


def test_an_interval_keeps_its_phase_whatever_was_missed() -> None:
    assert times(Rhythm(every_s=90), "2026-01-01T00:00:00Z", 2) == ["01-01 00:01:30", "01-01 00:03:00"]
    assert times(Rhythm(every_s=90), "2026-01-02T00:00:01Z", 1) == ["01-02 00:01:30"]
    third = Rhythm(every_s=1.1)
    now_s = 0.3
    for _ in range(1000):
        due_s = third.next_after(now_s, 0.3)
        assert due_s is not None
        assert now_s < due_s < now_s + 1.2
        now_s = due_s


def test_a_moment_comes_once() -> None:
    once = Rhythm(at="2026-05-01T10:00:00+02:00")
    assert times(once, "2026-04-01T00:00:00Z", 5) == ["05-01 08:00:00"]
    assert times(once, "2026-05-01T08:00:00Z", 5) == []


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({}, "cron"),
        ({"cron": "* * * * *", "every_s": 5.0}, "cron"),
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"cron": "@daily"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": "* * * * *", "time_zone": "Mars/Olympus"}, "time_zone"),
        ({"cron": "* * * * *", "time_zone": "../etc/passwd"}, "time_zone"),
        ({"cron": "* * * * *", "time_zone": "America"}, "time_zone"),
        ({"every_s": 5.0, "time_zone": "UTC"}, "time_zone"),
        ({"every_s": 0.5}, "every_s"),
        ({"every_s": float("inf")}, "every_s"),
        ({"every_s": float("nan")}, "every_s"),
        ({"at": "tomorrow"}, "at"),
        ({"at": "2026-05-01T10:00:00"}, "at"),
    ],
)
def test_what_is_never_due_is_refused(parts: dict[str, Any], field: str) -> None:
    with pytest.raises(ScheduleInvalid) as caught:
        Rhythm(**parts)
    assert caught.value.field == field


def test_a_rhythm_comes_back_from_its_plan() -> None:
    for rhythm in (Rhythm(cron="5 4 * * *", time_zone="Asia/Tokyo"), Rhythm(every_s=2.5), Rhythm(at="2026-05-01T10:00:00Z")):
        assert Rhythm.from_plan(rhythm.plan()) == rhythm
