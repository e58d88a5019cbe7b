"""The line that is printed to try a machine: its inputs fit the types that the first action declares for them."""

from typing import Any, Literal

import pytest

from app.banner import sample_inputs
from app.engine import FunctionBasedAction, State
from app.engine.input_types import input_types, mistyped


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
