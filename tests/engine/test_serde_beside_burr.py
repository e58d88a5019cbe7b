"""Burr's serialisation: what it writes is read here, what it restores is restored here, and what it loses is kept here."""

import datetime
import enum
import json
from typing import Any

import pydantic
import pytest
from engines import BURR, OURS, play
from hypothesis import given
from hypothesis import strategies as st

from app.engine import serde
from app.engine.serde import KEY, LossySerializationWarning, UndecodableValue
from app.engine.serde_pickle import register_type_to_pickle

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key not in ("$", KEY)), inner),
    max_leaves=10,
)


class Model(pydantic.BaseModel):
    name: str
    parts: list[int] = []


class Level(enum.IntEnum):
    LOW = 1


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]  # not needed


class Coordinates(Point):
    pass


class Opaque:
    def __str__(self) -> str:
        return "opaque text"


@given(json_values)
def test_json_is_written_and_read_as_in_burr(value: Any) -> None:
    ours, theirs = play(lambda e: (e.serialize(value), e.deserialize(e.serialize(value))))
    assert ours == theirs == (value, value)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_state_is_written_and_read_as_in_burr(values: dict[str, Any]) -> None:
    def scenario(e: Any) -> Any:
        written = e.State(dict(values)).serialize()
        return written, e.State.deserialize(json.loads(json.dumps(written))).get_all()

    ours, theirs = play(scenario)
    assert ours == theirs


def test_a_model_is_written_as_in_burr_and_each_reads_the_other() -> None:
    model = Model(name="n", parts=[1, 2])
    written, theirs = play(lambda e: e.State({"m": model, "all": [model]}).serialize())
    assert written == theirs
    assert OURS.State.deserialize(json.loads(json.dumps(theirs)))["m"] == model
    read, _ = play(lambda e: BURR.State.deserialize(json.loads(json.dumps(written)))["all"])
    assert read == [model]


def test_a_registered_type_is_written_and_read_as_in_burr() -> None:
    class Money:
        def __init__(self, cents: int) -> None:
            self.cents = cents

    def scenario(e: Any) -> Any:
        @e.serialize.register(Money)
        def write(value: Money, money_kwargs: Any = None, **_: Any) -> Any:
            return {e.KEY if hasattr(e, "KEY") else KEY: "money", "cents": value.cents, "how": money_kwargs}

        @e.deserializer.register("money")
        def read(value: Any, money_kwargs: Any = None, **_: Any) -> Any:
            return Money(value["cents"] + (money_kwargs or 0))

        written = e.State({"price": Money(5)}).serialize(money_kwargs=10)
        return written, e.State.deserialize(written, money_kwargs=10)["price"].cents

    ours, theirs = play(scenario)
    assert ours == theirs == ({"price": {KEY: "money", "cents": 5, "how": 10}}, 15)
    assert serde.decode(serde.encode({"p": [Money(3)]}))["p"][0].cents == 3


def test_a_field_has_functions_of_its_own_as_in_burr() -> None:
    def scenario(e: Any) -> Any:
        def write(value: Any, **kwargs: Any) -> Any:
            return {"value": value[::-1], "given": sorted(kwargs)}

        def read(value: Any, **_: Any) -> Any:
            return value["value"][::-1]

        e.register_field_serde("turned", write, read)
        written = e.State({"turned": "abc", "other": "abc"}).serialize(extra=1)
        return written, e.State.deserialize(written).get_all()

    ours, theirs = play(scenario)
    assert ours == theirs
    assert ours[1] == {"turned": "abc", "other": "abc"}


@pytest.mark.parametrize("e", [OURS, BURR], ids=["ours", "burr"])
def test_the_functions_of_a_field_must_take_keyword_arguments_and_give_a_dict(e: Any) -> None:
    with pytest.raises(ValueError, match="kwargs"):
        e.register_field_serde("wrong", lambda value: {}, lambda value, **kwargs: value)
    with pytest.raises(ValueError, match="kwargs"):
        e.register_field_serde("wrong", lambda value, **kwargs: {}, lambda value: value)
    e.register_field_serde("no_dict", lambda value, **kwargs: value, lambda value, **kwargs: value)
    with pytest.raises(ValueError, match="no_dict"):
        e.State({"no_dict": 3}).serialize()


def test_an_error_of_a_field_names_it_and_not_its_value() -> None:
    def fail(value: Any, **_: Any) -> Any:
        raise RuntimeError(f"cannot take {value}")

    OURS.register_field_serde("failing", fail, fail)
    with pytest.raises(ValueError, match="state field 'failing', a value of type str") as caught:
        OURS.State({"failing": "SECRET"}).serialize()
    assert "SECRET" not in str(caught.value)
    with pytest.raises(ValueError, match="state field 'failing' cannot be deserialized") as caught:
        OURS.State.deserialize({"failing": "SECRET"})
    assert "SECRET" not in str(caught.value)


def test_a_name_without_a_deserializer_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(ValueError, match=r"no deserializer is registered for 'nothing'; registered: .*pydantic"):
        serde.deserialize({"a": [{KEY: "nothing"}]})


def test_pickled_types_are_those_that_were_named() -> None:
    def scenario(e: Any) -> Any:
        e.register_type_to_pickle(Point)
        state = e.State({"p": Point(1), "q": [Coordinates(2)]})
        return e.State.deserialize(state.serialize(pickle_kwargs={"protocol": 4})).get_all()

    ours, theirs = play(scenario)
    assert ours == theirs == {"p": Point(1), "q": [Coordinates(2)]}


def test_a_pickle_goes_through_json_and_through_the_store() -> None:
    # Burr's holds bytes, on which the json module fails
    register_type_to_pickle(Point)
    state = OURS.State({"p": Point(1)})
    assert OURS.State.deserialize(json.loads(json.dumps(state.serialize())))["p"] == Point(1)
    assert serde.decode(serde.encode(Point(4))) == Point(4)


def test_a_pickle_of_burr_is_read_and_one_of_another_type_is_refused() -> None:
    import pickle

    register_type_to_pickle(Point)
    assert serde.deserialize({KEY: "pickle", "value": pickle.dumps(Point(1))}) == Point(1)
    with pytest.raises(ValueError, match="held a dict, which is not registered"):
        serde.deserialize({KEY: "pickle", "value": pickle.dumps({})})


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        b"x",
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        {1: "one"},
        Level.LOW,
        {KEY: "mine"},
        {"$": ["tuple"]},
    ],
)
def test_what_burr_turns_to_text_or_breaks_on_comes_back_here(value: Any) -> None:
    back = serde.deserialize(json.loads(json.dumps(serde.serialize({"v": [value]}))))["v"][0]
    assert (back, type(back)) == (value, type(value))


def test_a_type_that_nobody_registered_is_reduced_to_its_text_with_a_warning() -> None:
    with pytest.warns(LossySerializationWarning, match="met an Opaque; only its text is kept"):
        written = serde.serialize([Opaque()])
    theirs, _ = play(lambda e: BURR.serialize([Opaque()]))
    assert written == theirs == ["opaque text"]


def test_a_model_of_a_class_that_is_no_model_is_refused() -> None:
    with pytest.raises(UndecodableValue, match="is no pydantic model"):
        serde.deserialize({KEY: "pydantic", "__pydantic_class": f"{__name__}.Level"})
    with pytest.raises(UndecodableValue, match="is not loaded"):
        serde.deserialize({KEY: "pydantic", "__pydantic_class": "nowhere.at.all.Model"})


def test_models_are_read_from_allowed_modules_only_when_a_list_is_given() -> None:
    written = serde.serialize(Model(name="n"))
    assert serde.deserialize(written, allowlist=[__name__]) == Model(name="n")
    with pytest.raises(UndecodableValue, match="not in the allowlist"):
        serde.deserialize(written, allowlist=["elsewhere"])
