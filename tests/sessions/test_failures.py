import enum
import uuid

import pydantic
import pytest

from app.sessions.failures import message_of

SECRET = "hunter2-and-more"


def test_a_message_that_repeats_no_state_value_is_kept_as_it_is() -> None:
    assert message_of(ValueError("illegal move e2e5"), {"mode": "move", "n": 3}) == "illegal move e2e5"


@pytest.mark.parametrize(
    "state",
    [
        {"token": SECRET},
        {"nested": {"list": [1, (SECRET,)]}},
        {"raw": SECRET.encode()},
        {"model": pydantic.create_model("Keys", token=(str, ...))(token=SECRET)},
        {"within": SECRET, "whole": f"{SECRET}!"},
    ],
)
def test_a_value_of_the_state_is_withheld_wherever_it_is_kept(state: dict[str, object]) -> None:
    message = message_of(KeyError(f"no account for {SECRET}!"), state)
    assert SECRET not in message
    assert "no account for [withheld]" in message


def test_what_python_itself_says_of_a_value_is_withheld() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int(SECRET)
    assert message_of(caught.value, {"pin": SECRET}) == "invalid literal for int() with base 10: [withheld]"


def test_a_text_with_escapes_is_withheld_in_its_quoted_form() -> None:
    value = "first line\nsecond line"
    assert message_of(KeyError(value), {"notes": value}) == "[withheld]"


def test_long_numbers_are_withheld_and_short_ones_are_not() -> None:
    assert message_of(ValueError("card 4929123412341234 of 12"), {"card": 4929123412341234, "n": 12}) == "card [withheld] of 12"


def test_a_validation_error_says_where_and_what_but_not_which_value() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(dict[str, uuid.UUID]).validate_python({"key": SECRET})
    message = message_of(caught.value, {})
    assert message.startswith("key: Input should be a valid UUID")
    assert SECRET not in message


class Level(enum.IntEnum):
    LOW = 1234567

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("value", [16**9_000, Level.LOW], ids=["number", "enum"])
def test_a_value_that_has_no_text_does_not_keep_the_message_from_being_told(value: object) -> None:
    assert message_of(ValueError("no such move"), {"a": value}) == "no such move"
