"""What typed state promises beyond Burr: parts that cannot answer wrongly, and failures that change nothing."""

from typing import Any

import pydantic
import pytest

from app.engine import (
    ApplicationBuilder,
    PydanticTypingSystem,
    State,
    action,
    merge_to_state,
    model_from_state,
    pydantic_action,
)


class Address(pydantic.BaseModel):
    street: str


class Person(pydantic.BaseModel):
    name: str
    address: Address
    tags: list[str] = []
    nick: str | None = pydantic.Field(default=None, alias="nickName")


START = {"name": "Ada", "address": Address(street="Main"), "tags": ["a"]}


def application(*actions: Any) -> Any:
    return (
        ApplicationBuilder()
        .with_actions(*actions)
        .with_entrypoint(actions[0].__name__)
        .with_typing(PydanticTypingSystem(Person))
        .with_state(**START)
        .build()
    )


def test_an_action_that_fails_after_changing_its_model_changes_nothing() -> None:
    @pydantic_action(reads=["address", "tags"], writes=["address", "tags"])
    def spoil(state: Person) -> Person:
        state.address.street = "changed"
        state.tags.append("changed")
        raise ValueError("after the change")

    app = application(spoil)
    with pytest.raises(ValueError, match="after the change"):
        app.step()
    assert app.state.data == Person(**START)
    assert app.state["address"].street == "Main"


def test_an_earlier_state_stays_as_it_was() -> None:
    @pydantic_action(reads=["address", "tags"], writes=["address", "tags"])
    def move(state: Person) -> Person:
        state.address.street = "Side"
        state.tags.append("moved")
        return state

    app = application(move)
    before = app.state
    after = app.step()[2]
    assert (before["address"].street, before["tags"]) == ("Main", ["a"])
    assert (after["address"].street, after["tags"]) == ("Side", ["a", "moved"])


def test_the_data_of_the_state_in_an_action_has_the_fields_that_it_reads_and_no_others() -> None:
    seen: list[Any] = []

    @action(reads=["name"], writes=[])
    def look(state: State[Person]) -> State[Person]:
        seen.append((type(state.data), state.data.name))
        with pytest.raises(AttributeError):
            _ = state.data.address
        return state

    application(look).step()
    assert seen == [(Person, "Ada")]


def test_the_data_of_a_whole_state_must_be_a_whole_model() -> None:
    state = State({"name": "Ada"}, typing_system=PydanticTypingSystem(Person))
    with pytest.raises(pydantic.ValidationError):
        _ = state.data
    with pytest.raises(pydantic.ValidationError):
        state.typing_system.validate_state(state)


def test_a_state_made_of_a_model_knows_its_type() -> None:
    system = PydanticTypingSystem(Person)
    state = system.construct_state(Person(**START))
    assert state.typing_system is system
    assert state.data == Person(**START)


def test_a_field_with_an_alias_is_found_under_its_own_name() -> None:
    # Burr passes field names to a constructor that expects aliases
    assert model_from_state(Person, State({**START, "nick": "A."})).nick == "A."


def test_what_an_action_returns_is_validated() -> None:
    @pydantic_action(reads=["name"], writes=["name"])
    def spoil(state: Person) -> Person:
        return Person.model_construct(name=3)

    app = application(spoil)
    with pytest.raises(pydantic.ValidationError):
        app.step()
    assert app.state["name"] == "Ada"


def test_the_first_parameter_may_have_any_name_when_the_types_are_given() -> None:
    # Burr calls the function with `state=`
    @pydantic_action(reads=["name"], writes=["name"], state_input_type=Person, state_output_type=Person)
    def rename(person: Any) -> Any:
        person.name += "!"
        return person

    assert application(rename).step()[2]["name"] == "Ada!"


def test_the_types_before_and_after_an_action_have_what_it_reads_and_writes() -> None:
    @pydantic_action(reads=["name"], writes=["tags"])
    def tag(state: Person) -> Person:
        return state

    app = application(tag)
    system = app.state.typing_system
    before = system.state_pre_action_run_type(app.graph.actions[0], app.graph)
    after = system.state_post_action_run_type(app.graph.actions[0], app.graph)
    assert {name: info.is_required() for name, info in before.model_fields.items()} == {"name": True, "tags": False}
    assert {name: info.is_required() for name, info in after.model_fields.items()} == {"name": False, "tags": False}


def test_only_the_fields_to_write_are_merged() -> None:
    merged = merge_to_state(Person(**{**START, "name": "Eve"}), ["tags"], State({"name": "Ada", "tags": []}))
    assert merged.get_all() == {"name": "Ada", "tags": ["a"]}
