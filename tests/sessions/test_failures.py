import dataclasses
import datetime
import enum
import json
import random
import string
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import pydantic
import pytest

from app.sessions.failures import hide_messages, message_of, tell

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
    assert message_of(caught.value, {"pin": SECRET}) == "invalid literal for int() with base 10: '[withheld]'"


def test_a_text_with_escapes_is_withheld_in_its_quoted_form() -> None:
    value = "first line\nsecond line"
    assert message_of(KeyError(value), {"notes": value}) == "'[withheld]'"


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


def long_secret(length: int) -> str:
    return "".join(random.Random(length).choices(string.ascii_letters, k=length))


def shares_a_piece(text: str, secret: str, length: int = 20) -> bool:
    return any(secret[at : at + length] in text for at in range(len(secret) - length + 1))


@pytest.mark.parametrize("length", [20, 200, 3_990, 4_001, 10_000, 300_000])
@pytest.mark.parametrize("before", ["", "no account for ", "x" * 1_990, "y " * 998])
def test_a_long_value_is_withheld_wherever_the_message_is_cut(length: int, before: str) -> None:
    secret = long_secret(length)
    told = tell(ValueError(f"{before}{secret} and more"), {"document": secret})
    assert not shares_a_piece(told.message + told.traceback, secret)
    assert told.message.startswith(before[:1_000])


@pytest.mark.parametrize("length", range(6, 40))
def test_a_value_at_the_cut_is_not_shown_in_part(length: int) -> None:
    secret = long_secret(length)
    for before in range(1_990 - length, 2_005):
        message = message_of(ValueError("-" * before + secret), {"pin": secret})
        assert secret[:1] not in message.replace("[withheld]", "").rstrip("…")


@pytest.mark.parametrize("length", [25, 250, 25_000])
def test_a_part_of_a_value_is_withheld(length: int) -> None:
    secret = long_secret(length)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int(secret)  # of which Python shows the first 200 characters
    for error in (caught.value, ValueError(f"{secret[:24]}..."), ValueError(f"...{secret[-23:]}")):
        message = message_of(error, {"text": secret})
        assert "[withheld]" in message
        assert not shares_a_piece(message, secret)


@dataclasses.dataclass(slots=True)
class Slotted:
    token: str


class Extra(pydantic.BaseModel, extra="allow"):
    pass


@pytest.mark.parametrize(
    "value",
    [
        {SECRET: 1},
        {"a": [{SECRET.encode(): {}}]},
        {(1, SECRET): 1},
        Slotted(SECRET),
        Extra.model_validate({SECRET: 1}),
        pydantic.SecretStr(SECRET),
        {"deep": [[[[[{"x": {SECRET}}]]]]]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_and_attributes_are_withheld_too(value: object) -> None:
    assert message_of(KeyError(SECRET), {"accounts": value}) == "'[withheld]'"


@pytest.mark.parametrize("value", [datetime.date(2031, 12, 24), uuid.UUID(int=2**77), -4929123412341234, 0.12345678])
def test_dates_ids_and_numbers_are_withheld_as_python_writes_them(value: object) -> None:
    assert message_of(ValueError(f"not {value}"), {"it": value}).removeprefix("not ").lstrip("-") == "[withheld]"


def test_names_that_the_machine_gives_are_shown() -> None:
    assert message_of(KeyError("customer_id"), {"customer_id": {"customer_id": 1}}) == "'customer_id'"


@pytest.mark.parametrize("text", ["first\nsecond", 'quote\'s "both"', "Grüße an alle", "C:\\path\\to"])
def test_escaped_values_are_withheld(text: str) -> None:
    for written in (repr(text), ascii(text), json.dumps(text), repr(repr(text))):
        message = message_of(ValueError(f"bad {written}"), {"notes": text})
        assert text[:5] not in message
        assert text[-6:] not in message


def test_the_values_of_inputs_are_withheld_as_those_of_the_state_are() -> None:
    assert message_of(ValueError(f"bad {SECRET}"), {"n": 1}, {"prompt": SECRET}) == "bad [withheld]"


def test_the_last_of_many_values_is_found() -> None:
    state = {"rows": [*range(20_000), SECRET]}
    assert message_of(ValueError(f"bad {SECRET}"), state) == "bad [withheld]"


@pytest.mark.parametrize(
    "state",
    [{"rows": [*range(60_000), SECRET]}, {"text": " " * 50_000_000 + 10 * SECRET}],
    ids=["too many", "too long"],
)
def test_what_cannot_be_searched_is_not_shown(state: dict[str, Any]) -> None:
    message = message_of(ValueError(f"bad {10 * SECRET}"), state)
    assert message.startswith("[withheld: ")
    assert SECRET not in message


def test_a_secret_of_the_environment_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-1234567890")
    assert message_of(ValueError("401: sk-1234567890 is unknown"), {}) == "401: [withheld] is unknown"


def refuse(value: str) -> str:
    raise ValueError(f"no such account: {value}")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[str, uuid.UUID], {"ada@example.com": 1}),
        (dict[uuid.UUID, int], {SECRET: 1}),
        (pydantic.create_model("Closed", __config__=pydantic.ConfigDict(extra="forbid")), {SECRET.replace("-", ""): 1}),
        (Annotated[str, pydantic.AfterValidator(refuse)], SECRET),
    ],
    ids=["value", "key", "extra", "validator"],
)
def test_a_validation_error_repeats_neither_keys_nor_what_a_validator_says_of_the_value(kind: Any, value: Any) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(kind).validate_python(value)
    message = message_of(caught.value, {})
    assert "[withheld]" in message
    assert not any(secret in message for secret in (SECRET, SECRET.replace("-", ""), "ada@"))


@pytest.fixture
def hidden() -> Iterator[None]:
    hide_messages(True)
    yield
    hide_messages(False)


@pytest.mark.usefixtures("hidden")
def test_messages_can_be_hidden_altogether() -> None:
    try:
        try:
            raise KeyError("cause")
        except KeyError as exc:
            raise ValueError("illegal move") from exc
    except ValueError as exc:
        told = tell(exc, {})
    assert (told.error_type, told.message) == ("ValueError", "[withheld]")
    said = [line for line in told.traceback.splitlines() if line.startswith(("KeyError", "ValueError"))]
    assert said == ["KeyError: [withheld]", "ValueError: [withheld]"]
