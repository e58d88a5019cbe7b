"""The examples that come with Burr do the same here after their imports are changed. They are read where Burr is installed."""

import asyncio
import json
import logging
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import burr
import pytest

from app.engine import UndeclaredWrite
from tests.engine.moving import moved

EXAMPLES = Path(burr.__file__).parent / "examples"


def answer_to(messages: list[dict[str, str]]) -> str:
    """Stands for a language model: what the examples ask for, made of nothing but the question."""
    text = messages[-1]["content"]
    if "responding in the following modes" in text:
        asked = text.split("prompted this: ")[1].split(". You have")[0]
        modes = {"draw": "generate_image", "code": "generate_code", "poem": "generate_poem", "?": "answer_question"}
        return next((mode for word, mode in modes.items() if word in asked), "no idea")
    if "first task is to ask" in text:
        return "Who?\nWhen?"
    if "Generate a search query" in text or "Generate a query" in text:
        return json.dumps({"query": "first"})
    if "knowledge gap" in text:
        return json.dumps({"follow_up_query": "second"})
    return f"an answer to {len(text)} letters"


def openai() -> ModuleType:
    """Return a module with as much of the client library as the examples use."""

    def create(model: str, messages: list[dict[str, str]], stream: bool = False) -> Any:
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=answer_to(messages)))])

    async def acreate(model: str, messages: list[dict[str, str]], stream: bool = False) -> Any:
        async def words() -> AsyncIterator[Any]:
            for word in answer_to(messages).split():
                yield SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=word))])

        return words() if stream else create(model, messages)

    def client(create: Any) -> Callable[[], Any]:
        images = SimpleNamespace(generate=lambda **_: SimpleNamespace(data=[SimpleNamespace(url="https://an.image")]))
        return lambda: SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)), images=images)

    module = ModuleType("openai")
    vars(module).update(Client=client(create), AsyncOpenAI=client(acreate))
    return module


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Return what loads an example, as it is or moved; each loaded one has a home and a working directory of its own."""
    monkeypatch.setitem(sys.modules, "openai", openai())
    monkeypatch.setitem(sys.modules, "tavily", SimpleNamespace(TavilyClient=object))
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def load(example: str, file: str = "application", *, is_moved: bool) -> Any:
        home = tmp_path / ("ours" if is_moved else "theirs")
        home.mkdir(exist_ok=True)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.chdir(home)
        text = (EXAMPLES / example / f"{file}.py").read_text()
        source = home / f"{example}_{file}.py"  # Burr's tracker reads the source of actions
        source.write_text(moved(text) if is_moved else text)
        module = ModuleType(source.stem)
        exec(compile(source.read_text(), source, "exec"), vars(module))
        return module

    logging.disable(logging.CRITICAL)  # Burr prints states
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield load
    logging.disable(logging.NOTSET)


def values(state: Any) -> dict[str, Any]:
    return {key: value for key, value in state.get_all().items() if not key.startswith("__")}


def came_to(step: Any) -> Any:
    action, result, state = step
    return action.name, result, values(state)


def count(load: Any) -> Any:
    module = load("hello-world-counter")
    first = module.application(app_id="one")
    again = module.application(app_id="one") if first.run(halt_after=["result"]) else None
    return values(first.state), first.sequence_id, again.sequence_id, values(again.state), again.has_next_action()


def count_by_a_class(load: Any) -> Any:
    application = load("hello-world-counter", "application_classbased").application(app_id="one", count_up_to=1)
    return came_to(application.run(halt_after=["result"], inputs={"increment_by": 2}))


def answer_mail(load: Any) -> Any:
    module = load("email-assistant")
    asked = {"email_to_respond": "Shall we meet?", "response_instructions": "Yes"}
    found = [came_to(module.application("mail", username="me").run(halt_before=["clarify_instructions"], inputs=asked))]
    for inputs in ({"clarification_inputs": ["I", "now"]}, {"feedback": "shorter"}, {"feedback": ""}):
        application = module.application("mail", username="me")
        halts = {"halt_before": ["process_feedback"], "halt_after": ["final_result"]}
        found.append((application.sequence_id, came_to(application.run(**halts, inputs=inputs))))
    return found


def chat_in_modes(load: Any) -> Any:
    module = load("multi-modal-chatbot")
    found = []
    for prompt in ("draw a cat", "write code", "what is it?", "well", "something unsafe"):
        application = module.application(app_id="chat")
        found.append((came_to(application.run(halt_after=["response"], inputs={"prompt": prompt})), application.sequence_id))
    return found


def research(load: Any) -> Any:
    sys.modules["prompts"] = load("deep-researcher", "prompts")
    utils = sys.modules["deep_researcher_utils"] = load("deep-researcher", "deep_researcher_utils")
    utils.tavily_search = lambda query, **_: {
        "results": [{"title": query, "url": f"https://{query}", "content": "short", "raw_content": "long"}]
    }
    module = load("deep-researcher")
    module.prompts, module.utils = sys.modules.pop("prompts"), sys.modules.pop("deep_researcher_utils")
    application = module.application(app_id="research")
    return came_to(application.run(halt_after=["finalize_summary"], inputs={"research_topic": "owls"})), application.sequence_id


@pytest.mark.parametrize("play", [count, count_by_a_class, answer_mail, chat_in_modes, research])
def test_an_example_of_burr_comes_to_the_same_here(play: Callable[[Any], Any], load: Any) -> None:
    def of_burr(*names: str) -> Any:
        return load(*names, is_moved=False)

    def of_ours(*names: str) -> Any:
        return load(*names, is_moved=True)

    assert play(of_ours) == play(of_burr)


def test_the_example_that_writes_what_it_does_not_declare_is_told_all_of_it(load: Any) -> None:
    async def stream(module: Any) -> list[Any]:
        actions = module.TERMINAL_ACTIONS
        _, items = await module.application().astream_result(halt_after=actions, inputs={"prompt": "a poem"})
        return [item async for item in items]

    assert len(asyncio.run(stream(load("streaming-fastapi", is_moved=False)))) > 3
    with pytest.raises(UndeclaredWrite, match=r"'generate_poem' wrote \['chat_history', 'modified_chat_history'\] but declares"):
        asyncio.run(stream(load("streaming-fastapi", is_moved=True)))
