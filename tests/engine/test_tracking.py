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


IDS = [
    "user_1",
    "user:1",
    "user/1",
    "user.1",
    ".user_1",
    "user_1.",
    "",
    ".",
    "..",
    "_",
    "a" * 300,
    "a" * 301,
    "Grüße",
    "Gru\u0308ße",
    "\ud800",
]


def test_no_two_applications_have_the_same_folder(tracker: LocalTrackingClient) -> None:
    folders = [tracker.folder(app_id) for app_id in IDS]
    assert len(set(folders)) == len(IDS)
    assert all(folder.parent == tracker.storage_dir / "project" for folder in folders)
    for folder in folders:
        folder.mkdir(parents=True)


@pytest.mark.parametrize(("first", "second"), [("user:1", "user_1"), ("user_1", "user:1")])
def test_an_application_does_not_go_on_with_the_log_of_another(tracker: LocalTrackingClient, first: str, second: str) -> None:
    application(tracker, first).step(inputs={"by": 5})
    assert tracker.load("pk", second) is None
    application(tracker, second).step(inputs={"by": 1})
    states = [loaded["state"]["n"] for loaded in (tracker.load("pk", first), tracker.load("pk", second)) if loaded]
    assert states == [5, 1]
    assert tracker.list_app_ids("pk") == sorted([first, second])


def test_the_folder_of_an_earlier_version_is_found(tracker: LocalTrackingClient) -> None:
    application(tracker, "user:1").step(inputs={"by": 5})
    tracker.folder("user:1").rename(tracker.storage_dir / "project" / "user_1")
    assert tracker.folder("user:1").name == "user_1"
    loaded = tracker.load("pk", "user:1")
    assert loaded is not None
    assert loaded["state"]["n"] == 5


def test_folders_and_files_are_private(tmp_path: pathlib.Path) -> None:
    tracker = LocalTrackingClient("project", tmp_path / "deep" / "down")
    application(tracker, "user:1").step(inputs={"by": 5})
    folder = tracker.folder("user:1")
    for each in (tmp_path / "deep", tmp_path / "deep" / "down", folder.parent, folder):
        assert each.stat().st_mode & 0o777 == 0o700
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
