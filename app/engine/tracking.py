"""A tracker for one's own machine: what `with_tracker("local")` stands for.

Every application gets a folder with `graph.json` and `log.jsonl`, a line for the beginning and the end of each step. Values are
written in the form that `app.engine.serde` gives them, so guard the folder as you guard the state. A tracker can also be what an
application is initialized from: its log has every state.
"""

import hashlib
import json
import pathlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.engine.hooks import PostApplicationCreateHook, PostRunStepHook, PreRunStepHook
from app.engine.persistence_ports import BaseCopyable, BaseStateLoader, PersistedStateData
from app.engine.pointers import ParentPointer
from app.engine.private_files import make_private_folder, open_private
from app.engine.serde import deserialize_fields, serialize, serialize_fields
from app.engine.state import State

if TYPE_CHECKING:
    from app.engine.actions import Action
    from app.engine.graph import ApplicationGraph

__all__ = ["LocalTrackingClient"]

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-]|[A-Za-z0-9_-]", re.ASCII)
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_SHOWN = 60
_DIGITS = 32
_LONGEST = 255


class LocalTrackingClient(PostApplicationCreateHook, PreRunStepHook, PostRunStepHook, BaseStateLoader, BaseCopyable):
    """Writes what happens in applications to `storage_dir`/`project`/<application>, and reads it back."""

    def __init__(
        self,
        project: str = "default",
        storage_dir: str | pathlib.Path = "~/.stepwell/tracking",
        serde_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.project = project
        self.storage_dir = pathlib.Path(storage_dir).expanduser()
        self.serde_kwargs = dict(serde_kwargs or {})

    def copy(self) -> "LocalTrackingClient":
        return LocalTrackingClient(self.project, self.storage_dir, self.serde_kwargs)

    def folder(self, app_id: str) -> pathlib.Path:
        """Return where the application's files are: a folder named for its id, and for a hash of it if the id is no name."""
        project = self.storage_dir / self.project
        if _PLAIN.fullmatch(app_id):
            return project / app_id
        digest = hashlib.sha256(app_id.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
        former = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in app_id).strip(".") or "_"
        found = project / former
        if len(former) <= _LONGEST and _app_id_in(found) == app_id:  # written by an earlier version
            return found
        return project / f"{_UNFIT.sub('_', app_id)[:_SHOWN]}~{digest}"

    def post_application_create(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        application_graph: "ApplicationGraph",
        parent_pointer: ParentPointer | None,
        spawning_parent_pointer: ParentPointer | None,
        **_: Any,
    ) -> None:
        graph = {
            "app_id": app_id,
            "partition_key": partition_key,
            "parent": None if parent_pointer is None else vars(parent_pointer),
            "spawning_parent": None if spawning_parent_pointer is None else vars(spawning_parent_pointer),
            "entrypoint": application_graph.entrypoint.name,
            "actions": [{"name": each.name, "reads": each.reads, "writes": each.writes} for each in application_graph.actions],
            "transitions": [
                {"from": each.from_.name, "to": each.to.name, "condition": each.condition.name}
                for each in application_graph.transitions
            ],
        }
        folder = self.folder(app_id)
        make_private_folder(folder)
        with open(folder / "graph.json", "w", encoding="utf-8", opener=open_private) as file:
            file.write(json.dumps(graph, indent=2))

    def pre_run_step(self, *, app_id: str, sequence_id: int, action: "Action", inputs: dict[str, Any], **_: Any) -> None:
        given = {name: value for name, value in inputs.items() if not name.startswith("__")}
        self._write(
            app_id, type="begin_step", sequence_id=sequence_id, action=action.name, inputs=serialize(given, **self.serde_kwargs)
        )

    def post_run_step(
        self,
        *,
        app_id: str,
        sequence_id: int,
        action: "Action",
        state: State[Any],
        result: dict[str, Any] | None,
        exception: Exception | None,
        **_: Any,
    ) -> None:
        self._write(
            app_id,
            type="end_step",
            sequence_id=sequence_id,
            action=action.name,
            result=serialize(result, **self.serde_kwargs),
            state=serialize_fields(state, **self.serde_kwargs),
            exception=None if exception is None else type(exception).__name__,
        )

    def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **_: Any
    ) -> PersistedStateData | None:
        """Return the state after a step, or after the last one; None if nothing, or not that step, was logged."""
        path = None if app_id is None else self.folder(app_id) / "log.jsonl"
        if app_id is None or path is None or not path.exists():
            return None
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        steps = [entry for entry in entries if entry["type"] == "end_step" and sequence_id in (None, entry["sequence_id"])]
        if not steps:
            return None
        return {
            "partition_key": partition_key or "",
            "app_id": app_id,
            "sequence_id": steps[-1]["sequence_id"],
            "position": steps[-1]["action"],
            "state": State(deserialize_fields(steps[-1]["state"], **self.serde_kwargs)),
            "created_at": steps[-1]["at"],
            "status": "completed" if steps[-1]["exception"] is None else "failed",
        }

    def list_app_ids(self, partition_key: str | None, **_: Any) -> list[str]:
        """Return the ids of the applications that were tracked under `partition_key`."""
        graphs = [json.loads(path.read_text(encoding="utf-8")) for path in (self.storage_dir / self.project).glob("*/graph.json")]
        return sorted(graph["app_id"] for graph in graphs if graph["partition_key"] == partition_key)

    def _write(self, app_id: str, **entry: Any) -> None:
        folder = self.folder(app_id)
        make_private_folder(folder)
        line = json.dumps({"at": datetime.now(UTC).isoformat(), **entry})
        with open(folder / "log.jsonl", "a", encoding="utf-8", opener=open_private) as log:
            log.write(line + "\n")


def _app_id_in(folder: pathlib.Path) -> str | None:
    """Return the id of the application that a folder belongs to, if it belongs to one."""
    try:
        return str(json.loads((folder / "graph.json").read_text(encoding="utf-8"))["app_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
