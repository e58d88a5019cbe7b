"""What a step stores is what it changed, however the action is written, and it reads back exactly."""

from pathlib import Path
from typing import Any

import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.edits import Splice
from app.engine.machine import Machine
from app.engine.operations import Patch, Set
from app.engine.serde import encode
from app.persistence.factory import open_store
from app.persistence.records import StepKind
from app.sessions.errors import RunCancelled
from app.sessions.requests import Durability, ForkRequest, OnBusy, RunRequest, SessionEdit
from tests.chats import WAYS, chat, said
from tests.machines import Gate
from tests.persistence.making import queried
from tests.sessions.hosting import create, drop, hosting

TURNS = 60
STORED = "SELECT (SELECT sum(length(payload)) FROM steps) + (SELECT coalesce(sum(length(state)), 0) FROM snapshots)"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.mark.parametrize("durability", [Durability.SYNC, Durability.EXIT])
@pytest.mark.parametrize("way", WAYS)
async def test_a_chat_stores_at_most_twice_its_content_and_reads_back_exactly(way: str, url: str, durability: Durability) -> None:
    content = 0
    states: list[str] = []
    results: list[Any] = []
    async with hosting([chat(way)], open_store(url, migrate=True)) as host:
        session = await create(host, way)
        for turn in range(TURNS):
            inputs = {"prompt": said(turn, 80), "reply": said(turn, 600)}
            content += sum(map(len, inputs.values()))
            request = RunRequest(inputs=inputs, max_steps=1, durability=durability)
            results.append((await (await host.start(session, request)).outcome()).result)
            states.append(_exact((await host.get(session)).state))
        drop(host, session)
        assert _exact((await host.get(session)).state) == states[-1]
        assert [step.result for step in await host.history.steps(session, after_seq=-1, limit=100)] == results
        for seq in (0, 7, TURNS // 2, TURNS - 1):
            step, state = await host.history.step_with_state(session, seq)
            assert _exact(state) == states[seq]
            assert step.result == results[seq]
            assert {operation.key for operation in step.operations} == {"messages", "reply"}
    assert int(await queried(url, STORED)) <= 2 * content


def _exact(state: dict[str, Any]) -> str:
    return repr(encode(dict(state)))


@pytest.mark.parametrize("durability", list(Durability))
async def test_every_step_of_one_run_stores_what_it_changed(url: str, durability: Durability) -> None:
    async with hosting([noting()], open_store(url, migrate=True)) as host:
        session = await create(host, "noting")
        await (await host.start(session, RunRequest(max_steps=TURNS, durability=durability))).outcome()
        live = _exact((await host.get(session)).state)
        drop(host, session)
        assert _exact((await host.get(session)).state) == live
        steps = await host.history.steps(session, after_seq=-1, limit=TURNS)
        for step in steps:
            _, state = await host.history.step_with_state(session, step.seq)
            assert state == {"notes": {"all": [_note(seq) for seq in range(step.seq + 1)]}}
        at = ("all",)
        assert [step.operations for step in steps[1:]] == [
            (Patch("notes", (Splice(at, seq, 0, (_note(seq),)),)),) for seq in range(1, TURNS)
        ]


async def test_an_edit_is_kept_as_the_client_has_written_it(url: str) -> None:
    async with hosting([noting()], open_store(url, migrate=True)) as host:
        session = await create(host, "noting")
        await (await host.start(session, RunRequest(max_steps=TURNS))).outcome()
        notes = [_note(seq) for seq in range(TURNS)]
        await host.edit(session, SessionEdit(set={"notes": {"all": [*notes, "by hand"]}}))
        fork = (await host.fork(session, ForkRequest(seq=TURNS - 2))).record.id
        assert (await host.get(fork)).state == {"notes": {"all": notes[:-1]}}
        await host.history.trim(session, TURNS - 1)
        drop(host, session)
        assert (await host.get(session)).state == {"notes": {"all": [*notes, "by hand"]}}
        (edit,) = await host.history.steps(session, after_seq=TURNS - 1, limit=1)
        assert edit.operations == (Set("notes", {"all": [*notes, "by hand"]}),)


async def test_a_rollback_sets_what_it_takes_back(url: str) -> None:
    gate = Gate()
    async with hosting([noting(gate)], open_store(url, migrate=True)) as host:
        session = await create(host, "noting")
        await (await host.start(session, RunRequest(max_steps=TURNS))).outcome()
        started = await host.start(session, RunRequest(max_steps=3, inputs={"waits": True}))
        await gate.until_reached()
        rolling = RunRequest(max_steps=1, on_busy=OnBusy.ROLLBACK)
        await (await host.start(session, rolling)).outcome()
        with pytest.raises(RunCancelled):
            await started.outcome()
        steps = await host.history.steps(session, after_seq=TURNS - 1, limit=10)
        (back,) = [step for step in steps if step.kind is StepKind.ROLLBACK]
        assert back.operations == (Set("notes", {"all": [*map(_note, range(TURNS))]}),)
        drop(host, session)
        assert (await host.get(session)).state == {"notes": {"all": [*map(_note, range(TURNS)), _note(TURNS)]}}


def _note(number: int) -> str:
    return said(number, 40)


def noting(gate: Gate | None = None) -> Machine:
    """Notes one text more with each step; it stops at the gate after its second one if it is to wait."""

    @action(reads=["notes"], writes=["notes"])
    async def note(state: State, waits: bool = False) -> State:
        notes = state["notes"]
        if gate is not None and not waits and len(notes["all"]) == TURNS + 1:
            await gate.wait()
        return state.update(notes={**notes, "all": [*notes["all"], _note(len(notes["all"]))]})

    return Machine(
        "noting",
        lambda: (
            ApplicationBuilder()
            .with_actions(note)
            .with_transitions(("note", "note"))
            .with_state(notes={"all": []})
            .with_entrypoint("note")
        ),
    )
