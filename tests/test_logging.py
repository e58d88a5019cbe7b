"""What a log line looks like, in a process of its own: logging belongs to a whole process."""

import json
import subprocess
import sys
import textwrap

import pytest

from app.executors.errors import RemoteActionError
from app.logged_errors import error_lines
from app.persistence.urls import DatabaseUrlInvalid, parse

SCRIPT = """
    import logging, warnings
    from app.engine.mode_warnings import BlockingActionWarning, MixedModeWarning
    from app.logging_setup import set_up_logging

    set_up_logging({level!r}, {form!r})
    logger = logging.getLogger("app.sessions")
    logger.debug("too small")
    logger.info("a run has ended", extra={{"session_id": "s-1", "steps": 3}})
    logging.getLogger("somebody.else").info("not ours")
    warnings.warn("the executors have logged this", BlockingActionWarning)
    warnings.warn("hooks ['h'] are skipped", MixedModeWarning)
    try:
        secret = " ".join(["ge", "heim"])  # so that no line of code shows it
        raise KeyError(secret)
    except KeyError as exc:
        logger.error("it failed", exc_info=exc)
"""


def lines_of(form: str, level: str = "info") -> list[str]:
    script = textwrap.dedent(SCRIPT.format(form=form, level=level))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def test_lines_for_people_have_a_time_a_level_a_message_and_fields() -> None:
    lines = lines_of("console")
    assert [line[9:] for line in lines[:2]] == [
        "[info     ] a run has ended session_id=s-1 steps=3",
        "[warning  ] MixedModeWarning: hooks ['h'] are skipped",
    ]


def test_lines_for_machines_are_json_with_the_same_fields() -> None:
    ended, warned, failed = map(json.loads, lines_of("json"))
    assert {name: ended[name] for name in ("level", "logger", "message", "session_id", "steps")} == {
        "level": "info",
        "logger": "app.sessions",
        "message": "a run has ended",
        "session_id": "s-1",
        "steps": 3,
    }
    assert ended["timestamp"].endswith("Z")
    assert warned["message"] == "MixedModeWarning: hooks ['h'] are skipped"
    assert failed["exception"].startswith("Traceback")


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_has_no_colours_without_a_terminal_and_never_shows_values(form: str) -> None:
    text = "\n".join(lines_of(form))
    assert "KeyError: [withheld]" in text
    assert "ge heim" not in text
    assert "\x1b" not in text


def test_what_stepwell_and_its_libraries_say_of_an_error_is_logged() -> None:
    with pytest.raises(DatabaseUrlInvalid) as caught:
        parse("mysql://x")
    own = caught.value.with_traceback(caught.tb.tb_next)  # without the frame of this test, which is a user's
    assert "DatabaseUrlInvalid: a database url starts with" in error_lines(own)


def test_what_user_code_says_is_not_logged_wherever_it_stands_in_a_chain() -> None:
    secret = "hunter2-and-more"
    try:
        try:
            raise KeyError(secret)
        except KeyError as exc:
            raise ExceptionGroup(secret, [ValueError(secret), RemoteActionError(secret, "X")]) from exc
    except ExceptionGroup as exc:
        exc.__context__ = None
        lines = error_lines(exc)
    assert secret not in lines
    assert lines.count("[withheld]") == 4
    for name in ("KeyError", "ExceptionGroup", "ValueError", "RemoteActionError"):
        assert f"{name}: [withheld]" in lines


def test_the_level_is_that_of_our_own_lines() -> None:
    assert not any("too small" in line for line in lines_of("console"))
    assert any("too small" in line for line in lines_of("console", "debug"))
    assert not any("not ours" in line for line in lines_of("console", "debug"))
