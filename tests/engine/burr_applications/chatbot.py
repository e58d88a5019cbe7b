"""A chatbot with streaming and history, written for Burr.

Questions are checked, sent down one of two ways, and answered word by word. Conversations are kept in SQLite under the name
of the user, and go on where they stopped.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from burr.core import Application, ApplicationBuilder, State, action, default, expr, when
from burr.core.action import streaming_action
from burr.core.persistence import SQLitePersister
from burr.lifecycle import PostRunStepHook
from burr.lifecycle.base import PostEndStreamHook, PostStreamItemHook, PreStartStreamHook

Model = Callable[[str], str]


@action(reads=[], writes=["question", "history"])
def receive(state: State, question: str) -> tuple[dict, State]:
    """Takes what the user says."""
    turn = {"role": "user", "content": question}
    return {"received": len(question)}, state.update(question=question).append(history=turn)


@action(reads=["question"], writes=["safe"])
def check(state: State, forbidden: str) -> State:
    return state.update(safe=forbidden not in state["question"])


@action(reads=["question"], writes=["kind"])
def route(state: State) -> State:
    kind = "code" if "code" in state["question"] else "joke" if state["question"].endswith("!") else "talk"
    return state.update(kind=kind)


@action(reads=[], writes=["answer"])
def refuse(state: State) -> tuple[dict, State]:
    answer = "I would rather not talk about that."
    return {"answer": answer}, state.update(answer=answer)


@streaming_action(reads=["history", "kind"], writes=["answer"])
def talk(state: State, model: Model, prefix: str = "") -> Generator[tuple[dict, State | None], None, None]:
    """Answers word by word."""
    said = []
    for word in model(prefix + state["history"][-1]["content"]).split():
        said.append(word)
        yield {"word": word}, None
    answer = " ".join(said)
    yield {"answer": answer, "words": len(said)}, state.update(answer=answer)


@streaming_action(reads=["question"], writes=["answer"])
async def atalk(state: State, model: Model) -> AsyncGenerator[tuple[dict, State | None], None]:
    said = []
    for word in model(state["question"]).split():
        said.append(word)
        yield {"word": word}, None
    yield {"answer": " ".join(said)}, state.update(answer=" ".join(said))


@action(reads=["answer"], writes=["history"])
def respond(state: State) -> tuple[dict, State]:
    """Puts the answer into the history."""
    turn = {"role": "assistant", "content": state["answer"]}
    return {"turn": turn}, state.append(history=turn)


class Protocol(PostRunStepHook, PreStartStreamHook, PostStreamItemHook, PostEndStreamHook):
    """Notes what happens."""

    def __init__(self) -> None:
        self.lines: list = []

    def post_run_step(self, *, action: Any, sequence_id: int, exception: Any, result: Any, **future_kwargs: Any) -> None:
        self.lines.append(("step", sequence_id, action.name, result, exception is None))

    def pre_start_stream(self, *, action: str, sequence_id: int, **future_kwargs: Any) -> None:
        self.lines.append(("stream", sequence_id, action))

    def post_stream_item(self, *, item: Any, item_index: int, **future_kwargs: Any) -> None:
        self.lines.append(("item", item_index, item))

    def post_end_stream(self, *, action: str, **future_kwargs: Any) -> None:
        self.lines.append(("end", action))


def conversation(user: str, model: Model, path: str, protocol: Protocol) -> Application:
    """Opens the conversation of a user, or goes on with it."""
    # Burr closes the connection when the persister is collected, in whichever thread that is
    persister = SQLitePersister(path, table_name="conversations", connect_kwargs={"check_same_thread": False})
    persister.initialize()
    return (
        ApplicationBuilder()
        .with_actions(
            receive,
            refuse,
            respond,
            check=check.bind(forbidden="password"),
            route=route,
            code=talk.bind(model=model, prefix="as code: "),
            talk=talk.bind(model=model),
        )
        .with_transitions(
            ("receive", "check"),
            ("check", "refuse", when(safe=False)),
            ("check", "route", default),
            ("route", "code", expr("kind == 'code'")),
            ("route", "talk"),
            (["refuse", "code", "talk"], "respond"),
            ("respond", "receive"),
        )
        .with_identifiers(app_id=f"chat-{user}", partition_key=user)
        .initialize_from(
            persister,
            resume_at_next_action=True,
            default_state={"history": []},
            default_entrypoint="receive",
        )
        .with_state_persister(persister)
        .with_hooks(protocol)
        .build()
    )


def ask(app: Application, question: str) -> tuple[list, dict | None, list]:
    """Asks one question and listens to the answer as it comes."""
    action_, stream = app.stream_result(halt_after=["code", "talk", "refuse"], inputs={"question": question})
    words = [item["word"] for item in stream]
    result, state = stream.get()
    assert state["answer"] == result["answer"]
    app.run(halt_after=["respond"])
    return [action_.name, *words], result, app.state["history"]


async def listen(model: Model, question: str) -> tuple[list, dict]:
    """The short way: one async answer without a history."""
    app = (
        ApplicationBuilder()
        .with_actions(talk=atalk.bind(model=model))
        .with_transitions(("talk", "talk"))
        .with_state(question=question)
        .with_entrypoint("talk")
        .build()
    )
    _, stream = await app.astream_result(halt_after=["talk"])
    words = [item["word"] async for item in stream]
    result, _state = await stream.get()
    return words, result


def play(model: Model, path: str) -> dict:
    """What a user does with it on two days."""
    import asyncio

    protocol = Protocol()
    first_day = conversation("ada", model, path, protocol)
    answers = [ask(first_day, text) for text in ("hello there", "tell me the password", "show me code")]
    second_day = conversation("ada", model, path, protocol)
    answers.append(ask(second_day, "where were we"))
    stranger = conversation("bob", model, path, protocol)
    return {
        "answers": answers,
        "protocol": protocol.lines,
        "history": second_day.state["history"],
        "sequence_id": second_day.sequence_id,
        "stranger": stranger.state["history"],
        "listened": asyncio.run(listen(model, "and now quickly")),
    }
