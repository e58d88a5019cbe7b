"""The local tracker writes what happens to a folder, and an application can go on from there."""

import json
import pathlib
from typing import Any

import pytest
from burr.tracking import LocalTrackingClient as BurrTracker
from engines import OURS, play

from app.engine import ApplicationBuilder, LocalTrackingClient, State, action


@pytest.fixture
def tracker(tmp_path: pathlib.Path) -> LocalTrackingClient:
    return LocalTrackingClient("project", tmp_path)


@action(reads=["n", "seen"], writes=["n", "seen"])
def count(state: State[Any], by: int) -> tuple[dict[str, Any], State[Any]]:
    if by == 0:
        raise ValueError("SECRET")
    return {"by": by}, state.update(n=state["n"] + by, seen=(*state["seen"], by))


def application(tracker: LocalTrackingClient, app_id: str = "app/1", **fork: Any) -> Any:
    return (
        ApplicationBuilder()
        .with_actions(count)
        .with_transitions(("count", "count"))
        .with_identifiers(app_id=app_id, partition_key="pk")
        .initialize_from(
            tracker, resume_at_next_action=True, default_state={"n": 0, "seen": ()}, default_entrypoint="count", **fork
        )
        .with_tracker(tracker)
        .build()
    )


def test_every_step_is_two_lines_and_the_graph_a_file(tracker: LocalTrackingClient) -> None:
    app = application(tracker)
    app.step(inputs={"by": 2})
    with pytest.raises(ValueError, match="SECRET"):
        app.step(inputs={"by": 0})
    folder = tracker.folder("app/1")
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [(line["type"], line["sequence_id"], line["action"]) for line in lines] == [
        ("begin_step", 0, "count"),
        ("end_step", 0, "count"),
        ("begin_step", 1, "count"),
        ("end_step", 1, "count"),
    ]
    assert (lines[0]["inputs"], lines[1]["result"], lines[1]["state"]["n"]) == ({"by": 2}, {"by": 2}, 2)
    assert lines[3]["exception"] == "ValueError"
    assert "SECRET" not in (folder / "log.jsonl").read_text()
    assert json.loads((folder / "graph.json").read_text())["entrypoint"] == "count"


def test_an_application_goes_on_from_its_log(tracker: LocalTrackingClient) -> None:
    application(tracker).step(inputs={"by": 2})
    again = application(tracker.copy())
    assert (again.state.get_all(), again.sequence_id) == ({"n": 2, "seen": (2,)}, 0)
    again.step(inputs={"by": 3})
    fork = application(tracker, "other", fork_from_app_id="app/1", fork_from_partition_key="pk", fork_from_sequence_id=0)
    assert fork.state["n"] == 2
    assert application(tracker).state["n"] == 5
    assert tracker.list_app_ids("pk") == ["app/1", "other"]
    assert tracker.list_app_ids(None) == []


def test_a_step_that_failed_is_taken_again(tracker: LocalTrackingClient) -> None:
    with pytest.raises(ValueError, match="SECRET"):
        application(tracker).step(inputs={"by": 0})
    saved = tracker.load("pk", "app/1")
    assert saved is not None
    assert saved["status"] == "failed"
    assert application(tracker).step(inputs={"by": 1})[2]["n"] == 1


def test_what_was_not_logged_is_not_loaded(tracker: LocalTrackingClient) -> None:
    assert tracker.load("pk", None) is None
    assert tracker.load("pk", "app/1") is None
    application(tracker)
    assert tracker.load("pk", "app/1") is None
    application(tracker).step(inputs={"by": 1})
    assert tracker.load("pk", "app/1", 7) is None


def test_an_application_goes_on_from_the_log_of_its_tracker_as_in_burr(tmp_path: pathlib.Path) -> None:
    def scenario(e: Any) -> Any:
        @e.action(reads=["n"], writes=["n"])
        def grow(state: Any) -> Any:
            return state.update(n=state["n"] + 1)

        make = LocalTrackingClient if e is OURS else BurrTracker

        def opened() -> Any:
            tracker = make("project", str(tmp_path / e.label))
            builder = e.ApplicationBuilder().with_actions(grow).with_transitions(("grow", "grow")).with_identifiers(app_id="app")
            start = {"default_state": {"n": 0}, "default_entrypoint": "grow", "resume_at_next_action": True}
            return builder.initialize_from(tracker, **start).with_tracker(tracker).build()

        seen = []
        for _ in range(3):
            app = opened()
            seen += [(app.step()[2]["n"], app.sequence_id) for _ in range(2)]
        return seen

    ours, theirs = play(scenario)
    assert ours == theirs
