"""Which inputs from outside have the types that an action declares."""

from datetime import datetime
from inspect import Parameter
from typing import Any, Literal

import pytest

from app.engine.input_types import input_types, mistyped


def taking(annotation: Any, default: Any = Parameter.empty) -> Any:
    def function(state: object, value: Any) -> None: ...

    if default is not Parameter.empty:
        function.__defaults__ = (default,)

    function.__annotations__["value"] = annotation
    return function


def wrong(annotation: Any, value: Any) -> dict[str, str]:
    return mistyped(input_types(taking(annotation), frozenset({"value"})), {"value": value})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 3),
        (float, 3),
        (float, 2.5),
        (str, ""),
        (bool, False),
        (Any, object()),
        (list, [1, "a"]),
        (dict, {"a": 1}),
        (list[dict[str, int]], [{"a": 1}]),
        (int | None, None),
        (Literal["a", "b"], "b"),
    ],
)
def test_a_value_of_the_declared_type_is_right(annotation: Any, value: Any) -> None:
    assert wrong(annotation, value) == {}


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (int, "3", "should be a valid integer"),
        (int, 3.5, "should be a valid integer"),
        (int, True, "should be a valid integer"),
        (float, "hunter2", "should be a valid number"),
        (str, 3, "should be a valid string"),
        (bool, 1, "should be a valid boolean"),
        (dict[str, int], [], "should be a valid dictionary"),
        (list[int], [1, 2, "hunter2"], "[2] should be a valid integer"),
        (int | None, "hunter2", "should be a valid integer"),
        (Literal["a", "b"], "hunter2", "should be 'a' or 'b'"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(annotation: Any, value: Any, said: str) -> None:
    assert wrong(annotation, value) == {"value": said}


@pytest.mark.parametrize(("annotation", "default"), [(int, None), (list[str], None), (int, "all"), (str, 0)])
def test_the_default_of_a_parameter_is_right_whatever_its_type(annotation: Any, default: Any) -> None:
    expected = input_types(taking(annotation, default), frozenset({"value"}))
    assert mistyped(expected, {"value": default}) == {}
    assert list(mistyped(expected, {"value": False})) == ["value"], "anything else is as wrong as ever"


@pytest.mark.parametrize("annotation", [datetime, object, list[datetime], "NotThere", tuple[int, int]])
def test_other_types_are_the_business_of_the_action(annotation: Any) -> None:
    assert wrong(annotation, "whatever") == {}
