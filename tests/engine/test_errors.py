"""Errors: what they say, and that they are the same in another process."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from app.engine import (
    ActionTimeout,
    ApplicationBuilder,
    AsyncActionInSyncRun,
    BranchStopped,
    BuildError,
    ConditionError,
    EngineError,
    GraphError,
    InvalidInputs,
    InvalidResult,
    MissingWrite,
    NothingToRun,
    OperationError,
    RunAbandoned,
    State,
    UndeclaredRead,
    UndeclaredWrite,
    UninitializedPersister,
    UnknownAction,
    UnknownKey,
    UnknownTag,
    action,
    expr,
    safe_expr,
)

SECRET = "hunter2"


@action(reads=[], writes=[])
def idle(state: State[Any]) -> State[Any]:
    return state


def machine(*actions: Any) -> ApplicationBuilder[Any]:
    builder: ApplicationBuilder[Any] = ApplicationBuilder()
    return builder.with_actions(*actions).with_entrypoint(actions[0].__name__).with_state(password=SECRET, log=[SECRET])


@pytest.mark.parametrize(
    "error",
    [
        ActionTimeout("a", 1.5),
        AsyncActionInSyncRun("a"),
        BranchStopped(),
        InvalidInputs("a", missing=["x"], unexpected=["y"], accepted=["z"]),
        InvalidResult("a", "None", "a State"),
        MissingWrite("a", ["k"], ["k", "l"]),
        NothingToRun("a"),
        OperationError("cannot"),
        RunAbandoned(),
        UndeclaredRead("k", "a", ["b"], exists=True),
        UndeclaredWrite("a", ["k"], ["b"]),
        UninitializedPersister(object()),
        UnknownAction("x", ["y"], "halt_after"),
        UnknownKey("k", ["b"]),
        UnknownTag("x", ["y"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_from_another_process_as_it_was(error: EngineError) -> None:
    error.add_note("on the way")
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)


def test_a_missing_key_is_told_with_the_action_and_the_keys_that_the_whole_state_has() -> None:
    @action(reads=["passwrd"], writes=[])
    def login(state: State[Any]) -> State[Any]:
        return state.update(password=state["passwrd"])

    with pytest.raises(UnknownKey) as caught:
        machine(login).with_validation("off").build().step()
    assert str(caught.value) == (
        "action 'login' reads 'passwrd', which the state does not have; it has ['log', 'password']; did you mean 'password'?"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.append(password=1),
        lambda state: state.extend(password=[1]),
        lambda state: state.increment(password=1),
        lambda state: state.extend(log=7),
    ],
)
@pytest.mark.parametrize("reads", [[], ["password", "log"]])
def test_an_operation_that_does_not_fit_names_the_action_and_no_value(change: Callable[[Any], Any], reads: list[str]) -> None:
    @action(reads=reads, writes=["password", "log"])
    def spoil(state: State[Any]) -> State[Any]:
        changed: State[Any] = change(state)
        return changed

    with pytest.raises(OperationError, match=r"^action 'spoil' cannot ") as caught:
        machine(spoil).build().step()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("kind", [expr, safe_expr])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("int(password) > 1", "ValueError"),
        ("password > 1", "TypeError"),
        ("log[7]", "IndexError"),
        ("log[password]", "TypeError"),
    ],
)
def test_an_expression_that_fails_is_named_with_the_kind_of_error_and_no_value(kind: Any, text: str, found: str) -> None:
    @action(reads=[], writes=[])
    def first(state: State[Any]) -> State[Any]:
        return state

    application = machine(first, idle).with_transitions(("first", "idle", ~kind(text))).build()
    with pytest.raises(ConditionError) as caught:
        application.run(halt_after=["idle"])
    assert str(caught.value) == f"condition {text!r} raised {found} on this state"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ApplicationBuilder().with_actions(idle).with_entrypoint(idle).build(), "the entrypoint names a function"),
        (lambda: machine(idle).build().run(halt_after=[idle]), "halt_after names a function"),
        (lambda: machine(idle).build().run(halt_before=[7]), "halt_before names an int"),
    ],
)
def test_something_else_than_the_name_of_an_action_is_an_error_that_says_so(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(UnknownAction, match=f"^{message}; expected the name of an action; actions are \\['idle'\\]$"):
        build()


def test_inputs_that_are_no_mapping_are_an_error_that_says_so() -> None:
    @action(reads=[], writes=["name"])
    def greet(state: State[Any], name: str) -> State[Any]:
        return state.update(name=name)

    with pytest.raises(InvalidInputs, match="action 'greet' got its inputs as a list; expected a mapping from their names"):
        machine(greet).build().step(inputs=["name"])  # type: ignore[arg-type]  # the mistake under test


def test_a_transition_of_the_wrong_length_is_an_error_that_says_so() -> None:
    with pytest.raises(GraphError, match="a transition has 1 parts; expected"):
        machine(idle).with_transitions(("idle",))  # type: ignore[arg-type]  # the mistake under test


def test_a_persister_that_saves_nothing_is_an_error_that_says_so() -> None:
    with pytest.raises(BuildError, match="with_state_persister got an object; expected a persister"):
        machine(idle).with_state_persister(object())  # type: ignore[arg-type]  # the mistake under test


def test_names_of_tags_given_as_one_string_are_an_error_that_says_so() -> None:
    with pytest.raises(GraphError, match="declares tags as the string 'final'; expected a list of names"):
        action(reads=[], writes=[], tags="final")(lambda state: state)  # type: ignore[arg-type]  # the mistake under test
