"""What a type checker says of user code: right code passes `mypy --strict`, and each mistake is found on its own line."""

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parent.parent.parent

USER_CODE = """
from collections.abc import AsyncGenerator
from typing import Any, assert_type

import pydantic

from app.engine import (
    Action, Application, ApplicationBuilder, MapStates, PostRunStepHook, PydanticTypingSystem, State, action, pydantic_action,
    streaming_action, trace, when,
)


class Mail(pydantic.BaseModel):
    subject: str | None = None
    drafts: list[str] = []


@action(reads=["count"], writes=["count"])
def count(state: State, by: int = 1) -> State:
    return state.increment(count=by)


@action(reads=["subject"], writes=[])
async def look(state: State[Mail]) -> tuple[dict[str, Any], State[Mail]]:
    assert_type(state.data, Mail)
    assert_type(state.data.subject, str | None)
    return {"length": len(state.data.drafts)}, state


@pydantic_action(reads=["drafts"], writes=["drafts"])
def write(state: Mail, text: str) -> Mail:
    state.drafts.append(text)
    return state


@streaming_action(reads=[], writes=["said"])
async def say(state: State[Any], text: str) -> AsyncGenerator[tuple[dict[str, Any], State[Any] | None], None]:
    for word in text.split():
        yield {"word": word}, None
    yield {"said": text}, state.update(said=text)


@trace()
def helper(text: str) -> int:
    return len(text)


class Log(PostRunStepHook):
    def post_run_step(self, *, action: Action, sequence_id: int, **future_kwargs: Any) -> None:
        print(sequence_id, action.name)


def application() -> Application[Mail]:
    return (
        ApplicationBuilder()
        .with_actions(count, look, write.bind(text="x") if False else write, say=say.bind(text="hello"))
        .with_transitions(("count", "look"), (["look", "write"], "count", when(count=1)))
        .with_typing(PydanticTypingSystem(Mail))
        .with_state(Mail(subject="s"))
        .with_entrypoint("count")
        .with_hooks(Log())
        .build()
    )


def plain() -> Application:
    app = ApplicationBuilder().with_actions(count).with_state(count=1).with_entrypoint("count").build()
    assert_type(app, Application[Any])
    return app


async def use() -> None:
    app = application()
    assert_type(app.state.data, Mail)
    last, result, state = await app.arun(halt_after=["look"], inputs={"by": 2})
    assert_type(state.data, Mail)
    async for each, value, after in app.aiterate(halt_after=["look"]):
        assert_type(each, Action)
        assert_type(after.data.drafts, list[str])
    assert_type(helper("x"), int)
    assert_type(count(State({"count": 1}), by=2), State[Any])
"""

MISTAKES = [
    ("application().state.data.subjekt", "attr-defined"),
    ("application().run(halt_afer=['look'])", "call-arg"),
    ("application().state['count'] = 3", "index"),
    ("helper(3)", "arg-type"),
    ("count(State({}), by='two')", "arg-type"),
    ("ApplicationBuilder().with_entrypoint(3)", "arg-type"),
    ("ApplicationBuilder().with_validation('maybe')", "arg-type"),
    ("action(reads='count', writes=[])", "arg-type"),
    ("ApplicationBuilder().with_hooks(object())", "arg-type"),
]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[str, str]]:
    """What mypy says of the user's code with every mistake after it, by the number of the line."""
    path = tmp_path_factory.mktemp("user") / "user_code.py"
    path.write_text(USER_CODE + "\n".join(mistake for mistake, _ in MISTAKES) + "\n")
    told, errors, _ = api.run(
        ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache" / "user"), str(path)]
    )
    assert not errors
    lines = re.findall(rf"{path.name}:(\d+): error: (.*?)  \[([a-z-]+)\]", told)
    return {int(number): (text, code) for number, text, code in lines}


@pytest.mark.timeout(300)
def test_right_code_passes(findings: dict[int, tuple[str, str]]) -> None:
    length = len(USER_CODE.splitlines())
    assert {number: found for number, found in findings.items() if number <= length} == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("index", range(len(MISTAKES)), ids=[mistake for mistake, _ in MISTAKES])
def test_a_mistake_is_found(findings: dict[int, tuple[str, str]], index: int) -> None:
    number = len(USER_CODE.splitlines()) + 1 + index
    assert findings.get(number, ("", ""))[1] == MISTAKES[index][1]
