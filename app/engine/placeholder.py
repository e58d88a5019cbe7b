"""An action that only stands for one: to draw a machine before its actions are written."""

from typing import Any

from app.engine.actions import Action
from app.engine.state import State

__all__ = ["Placeholder"]


class Placeholder(Action):
    """Declares what it reads and writes and cannot be run."""

    def __init__(self, reads: list[str], writes: list[str]) -> None:
        super().__init__()
        self._reads = reads
        self._writes = writes

    @property
    def reads(self) -> list[str]:
        return self._reads

    @property
    def writes(self) -> list[str]:
        return self._writes

    def run(self, state: State[Any], **run_kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError(f"action {self.name!r} is a placeholder and cannot be run")

    def update(self, result: Any, state: State[Any]) -> State[Any]:
        raise NotImplementedError(f"action {self.name!r} is a placeholder and cannot update a state")
