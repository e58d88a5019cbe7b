"""What is told of a failed action is the same on every rung: the user's frames, the causes, and a last line as Python's."""

import pytest

from app.executors.ladder import ExecutorSettings
from app.persistence.memory import MemoryStore
from app.persistence.records import FailureRecord
from app.sessions.errors import ActionFailed
from app.sessions.loading import load_machine
from tests.sessions.hosting import create, hosting

RUNGS = ["loop", "thread", "process", "dask"]


async def failure_on(rung: str, kind: str, request: pytest.FixtureRequest) -> FailureRecord:
    dask = request.getfixturevalue("dask_cluster").address if rung == "dask" else None
    settings = ExecutorSettings(processes=1, dask=dask)
    store = MemoryStore()
    async with hosting([load_machine(f"tests.failing_machine:on_{rung}")], store, executors=settings) as host:
        session = await create(host, f"on-{rung}")
        with pytest.raises(ActionFailed):
            await host.step(session, {"kind": kind})
        (failure,) = await store.list_failures(session)
    assert "app/executors" not in failure.traceback
    assert "app/engine" not in failure.traceback
    assert "hunter2-and-more" not in failure.traceback + failure.message
    return failure


@pytest.mark.parametrize("rung", RUNGS)
async def test_the_traceback_has_the_users_frames_and_ends_with_the_error(rung: str, request: pytest.FixtureRequest) -> None:
    failure = await failure_on(rung, "plain", request)
    lines = failure.traceback.splitlines()
    assert (failure.error_type, failure.message, lines[-1]) == ("KeyError", "'missing'", "KeyError: 'missing'")
    assert lines[0] == "Traceback (most recent call last):"
    assert [line.strip() for line in lines if "raise" in line] == ['raise KeyError("missing")']
    assert [line.split()[-1] for line in lines if line.startswith("  File")][-1] == "fail"


@pytest.mark.parametrize("rung", RUNGS)
async def test_causes_and_contexts_are_told_without_values_of_the_state(rung: str, request: pytest.FixtureRequest) -> None:
    text = (await failure_on(rung, "chained", request)).traceback
    said = [line for line in text.splitlines() if line and not line.startswith((" ", "Traceback"))]
    assert said == [
        "KeyError: 'missing'",
        "The above exception was the direct cause of the following exception:",
        "LookupError: no account for [withheld]",
        "During handling of the above exception, another exception occurred:",
        "ValueError: at last",
    ]
    assert 'return {}["missing"]' in text


@pytest.mark.parametrize("rung", RUNGS)
async def test_a_context_that_is_suppressed_is_not_told(rung: str, request: pytest.FixtureRequest) -> None:
    text = (await failure_on(rung, "hidden", request)).traceback
    assert (text.splitlines()[-1], text.count("Error")) == ("ValueError: alone", text.count("ValueError"))


@pytest.mark.parametrize("rung", RUNGS)
async def test_an_error_whose_text_cannot_be_made_is_told_by_its_type(rung: str, request: pytest.FixtureRequest) -> None:
    failure = await failure_on(rung, "unspeakable", request)
    assert failure.error_type == "tests.failing_machine.Unspeakable"
    assert failure.message == "its text cannot be made: __str__ raised RuntimeError"
    assert "raise Unspeakable" in failure.traceback


@pytest.mark.parametrize("rung", RUNGS)
async def test_the_text_of_an_error_is_not_made_if_that_would_fill_the_memory(rung: str, request: pytest.FixtureRequest) -> None:
    failure = await failure_on(rung, "endless", request)
    assert failure.message == "its text is not made: it would hold more than 20,000 values"
    said = [line.partition(":")[0] for line in failure.traceback.splitlines() if failure.message in line]
    assert said == ["KeyError", "ValueError"]


@pytest.mark.parametrize("rung", RUNGS)
async def test_an_error_that_cannot_be_rebuilt_is_told_as_it_was(rung: str, request: pytest.FixtureRequest) -> None:
    failure = await failure_on(rung, "untravelling", request)
    assert failure.traceback.splitlines()[-1] == "tests.failing_machine.Untravelling: first"
