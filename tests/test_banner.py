"""The line that is printed to try a machine: its inputs fit the types that the first action declares for them."""

from typing import Any, Literal

import pytest

from app.banner import sample_inputs, without_password
from app.engine import FunctionBasedAction, State
from app.engine.input_types import input_types, mistyped
from app.persistence.urls import DatabaseUrlInvalid, parse


def taking(hint: Any) -> FunctionBasedAction:
    """An action with a required input of this type."""

    def take(state: State, value: Any) -> State:
        return state

    take.__annotations__["value"] = hint
    return FunctionBasedAction(take, reads=[], writes=[])


PLAIN = [str, int, float, bool, list, dict, None, list[str], dict[str, int], Literal["en", "de"], Literal[2], int | None]
UNIONS = [None | str, list[int] | str, Literal["a"] | int, list[dict[str, Any]] | None, dict[str, list[int]]]


@pytest.mark.parametrize("hint", [*PLAIN, *UNIONS], ids=str)
def test_a_sample_is_one_that_the_service_takes(hint: Any) -> None:
    take = taking(hint)
    expected = input_types(take.fn, frozenset({"value"}))
    assert expected
    assert mistyped(expected, sample_inputs(take)) == {}


def test_an_annotation_that_exists_for_type_checkers_alone_is_no_reason_not_to_start() -> None:
    assert sample_inputs(taking("ImportedForTypeCheckersAlone")) == {"value": "hello"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///stepwell.db", "sqlite:///stepwell.db"),
        ("sqlite:////data/of@home/stepwell.db", "sqlite:////data/of@home/stepwell.db"),
        ("memory://", "memory://"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://user:secret@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("postgresql+asyncpg://user:secret@[::1]/db?sslmode=require", "postgresql+asyncpg://user:***@[::1]/db?sslmode=require"),
        ("postgresql://user@host/db?host=/run/postgresql", "postgresql://user@host/db?host=/run/postgresql"),
        ("postgresql://host/db?PASSWORD=secret", "postgresql://host/db?PASSWORD=***"),
        ("postgresql://host/db?pwd=secret&ssl=true", "postgresql://host/db?pwd=***&ssl=true"),
        ("postgresql://host/db?p%61ssword=secret", "postgresql://host/db?***"),
    ],
)
def test_a_database_url_is_shown_without_what_may_be_a_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("around", ["@", "/", "?", "#", ":", "@/", "?x=", "[", " ", "%40", "\n", ":5432/"])
def test_no_part_of_a_password_is_shown_whatever_is_in_it(around: str) -> None:
    for url in (
        f"postgresql://user:SECRET{around}SECRET@host/db",
        f"postgresql://user:{around}SECRET@host/db",
        f"postgresql://host/db?password=SECRET{around}SECRET",
        f"postgresql://user:SECRET{around}SECRET@host/db?pwd={around}SECRET",
    ):
        assert "SECRET" not in without_password(url), url
        assert "SECRET" not in refusal_of(url)


def refusal_of(url: str) -> str:
    """Return what is said of a url that is refused; nothing if it is not."""
    try:
        parse(url)
    except DatabaseUrlInvalid as exc:
        return str(exc)
    return ""
