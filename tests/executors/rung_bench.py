"""Executors with the test machine on them, and short ways to call its actions."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rung_machine import ACTIONS

from app.engine.compiled import CompiledAction
from app.engine.operations import apply_all
from app.engine.perform import blocking_call
from app.engine.ports import ActionOutcome, BlockingCall
from app.engine.state import State
from app.executors.ladder import Executors
from app.executors.notices import Notice
from app.executors.owner import CallOwner
from app.executors.pool_stats import PoolStats
from app.executors.travel import MachineSource

SOURCE = MachineSource("rung_machine:load", "rung")


class Bench:
    """Executors with the test machine on them, and short ways to call its actions."""

    def __init__(self, executors: Executors, told: list[Notice], rung: str) -> None:
        self.executors = executors
        self.told = told
        self.rung = rung

    def owner(self, action: str, session: str = "s") -> CallOwner:
        return CallOwner(session, "rung", action)

    async def outcome(
        self, action: str, state: Mapping[str, Any] | None = None, session: str = "s", **inputs: Any
    ) -> ActionOutcome:
        return await self.executors.call(call_of(action, state, inputs), owner=self.owner(action, session))

    async def after(
        self, action: str, state: Mapping[str, Any] | None = None, session: str = "s", **inputs: Any
    ) -> dict[str, Any]:
        """Return the state after the action."""
        return apply_all(state or {}, (await self.outcome(action, state, session, **inputs)).operations)

    def pool(self, name: str | None = None) -> PoolStats:
        """Return the figures of one pool: of the rung that the bench is on, if no other is named."""
        return next(pool for pool in self.executors.stats() if pool.name == (name or self.rung))

    async def items(self, action: str, state: Mapping[str, Any] | None = None, **inputs: Any) -> list[Any]:
        stream = self.executors.stream(call_of(action, state, inputs), owner=self.owner(action))
        return [item async for item in stream]


def call_of(action: str, state: Mapping[str, Any] | None, inputs: Mapping[str, Any]) -> BlockingCall:
    record = CompiledAction(ACTIONS[action])
    return blocking_call(record, record.view(State(dict(state or {}))), inputs)


class Door:
    """What `linger` and `trickle` need: a file by which they say that they are at it, and one by which they may leave."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def inputs(self) -> dict[str, str]:
        self._count += 1
        return {"entered": str(self._folder / f"entered-{self._count}"), "leave": str(self._folder / "leave")}

    async def entered(self, inputs: Mapping[str, str]) -> int:
        """Wait for the one with these inputs; return its pid."""
        async with asyncio.timeout(60):
            while not Path(inputs["entered"]).exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
                await asyncio.sleep(0.005)
        return int(Path(inputs["entered"]).read_text() or 0)  # noqa: ASYNC240

    def open(self) -> None:
        (self._folder / "leave").touch()
