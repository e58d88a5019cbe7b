"""Ready-made hooks: one that writes every step to a file, one that makes a run slow enough to watch."""

import datetime
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from app.engine.hooks import PostRunStepHook, PreRunStepHook

if TYPE_CHECKING:
    from app.engine.actions import Action
    from app.engine.state import State

__all__ = ["SlowDownHook", "StateAndResultsFullLogger", "safe_json"]


def safe_json(obj: Any) -> str:
    """Return JSON in which whatever JSON does not know is its text."""
    return json.dumps(obj, default=str)


class StateAndResultsFullLogger(PostRunStepHook, PreRunStepHook):
    """Writes one line of JSON for every step: the whole state, the action, its result or exception, and when it ran.

    The file is flushed after every line. It holds all state values, so guard it as you guard them.
    """

    def __init__(
        self, jsonl_path: str, mode: Literal["append", "w"] = "append", json_dump: Callable[[dict[str, Any]], str] = safe_json
    ) -> None:
        if not jsonl_path.endswith(".jsonl"):
            raise ValueError(f"jsonl_path is {jsonl_path!r}, but must end with .jsonl")
        self.jsonl_path = jsonl_path
        self.json_dump = json_dump
        self.f = open(jsonl_path, mode="a" if mode == "append" else "w", encoding="utf-8")  # noqa: SIM115  # closed with the hook
        self._began: dict[tuple[str, int], datetime.datetime] = {}

    def pre_run_step(self, *, app_id: str, sequence_id: int, **_: Any) -> None:
        self._began[app_id, sequence_id] = datetime.datetime.now()

    def post_run_step(
        self,
        *,
        app_id: str,
        sequence_id: int,
        state: "State[Any]",
        action: "Action",
        result: dict[str, Any] | None,
        exception: Exception | None,
        **_: Any,
    ) -> None:
        ended = datetime.datetime.now()
        line = {
            "state": state.get_all(),
            "action": action.name,
            "result": result,
            "exception": str(exception),
            "start_time": self._began.pop((app_id, sequence_id), ended).isoformat(),
            "end_time": ended.isoformat(),
        }
        self.f.write(self.json_dump(line) + "\n")
        self.f.flush()

    def close(self) -> None:
        """Close the file. Also done when the hook is garbage."""
        self.f.close()

    def __del__(self) -> None:
        if hasattr(self, "f"):
            self.close()


class SlowDownHook(PostRunStepHook, PreRunStepHook):
    """Sleeps before and after every step, in seconds. For looking on; it blocks the thread that it is called in."""

    def __init__(self, pre_sleep_time: float = 0.5, post_sleep_time: float = 0.5) -> None:
        self.pre_sleep_time = pre_sleep_time
        self.post_sleep_time = post_sleep_time

    def pre_run_step(self, **_: Any) -> None:
        time.sleep(self.pre_sleep_time)

    def post_run_step(self, **_: Any) -> None:
        time.sleep(self.post_sleep_time)
