"""Plays over HTTP: a recorded game move by move, and an opening of the engine against itself in one run."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from examples.demo.follower import Follower
from examples.demo.games import Game, position_after

__all__ = ["Disagreement", "Outcome", "play_opening", "replay"]

PATIENCE_S = 60.0


class Disagreement(Exception):
    """The service and the chess library, or the service and its followers, do not tell the same story."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A session that came out right, and in how many steps."""

    session_id: str
    steps: int


async def replay(client: httpx.AsyncClient, game: Game, moved: Callable[[], None]) -> Outcome:
    """Replay `game` with both sides' moves as inputs, followed by events; `moved` is called after each. Raises Disagreement."""
    session_id = await _created(client, {"white": "person", "black": "person", "recorded": True})
    follower = Follower(client, session_id, hang_up_after=len(game.inputs) // 2)
    following = asyncio.create_task(follower.follow())
    try:
        await asyncio.wait_for(_unless_it_fails(follower.connected.wait(), following), PATIENCE_S)
        answer = await _step(client, session_id, {})
        for move in game.inputs:
            answer = await _step(client, session_id, {"move": move})
            moved()
        await asyncio.wait_for(_unless_it_fails(follower.caught_up(answer["run_id"]), following), PATIENCE_S)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
    session = await _session(client, session_id)
    _compare(game.title, "final position", session["state"]["fen"], game.final_fen)
    _compare(game.title, "result", session["state"]["result"], game.result)
    _compare(game.title, "status", session["status"], "ended")
    _compare(game.title, "steps seen by the follower", follower.seqs, list(range(session["seq"] + 1)))
    return Outcome(session_id, session["seq"] + 1)


async def play_opening(client: httpx.AsyncClient, seed: int, half_moves: int) -> Outcome:
    """Let the engine play `half_moves` against itself. Raises Disagreement if its moves do not lead to its position."""
    session_id = await _created(client, {"white": "engine", "black": "engine", "seed": seed})
    answer = await client.post(f"/v1/sessions/{session_id}/runs", json={"max_steps": half_moves + 1})
    state = _checked(answer)["state"]
    _compare(f"opening {seed}", "number of moves", len(state["moves"]), half_moves)
    _compare(f"opening {seed}", "final position", state["fen"], position_after(state["moves"]))
    return Outcome(session_id, half_moves + 1)


async def _created(client: httpx.AsyncClient, state: dict[str, Any]) -> str:
    answer = await client.post("/v1/sessions", json={"machine": "chess", "state": state})
    return str(_checked(answer)["id"])


async def _step(client: httpx.AsyncClient, session_id: str, inputs: dict[str, str]) -> Any:
    headers = {"Prefer": "return=minimal"}
    return _checked(await client.post(f"/v1/sessions/{session_id}/steps", json={"inputs": inputs}, headers=headers))


async def _session(client: httpx.AsyncClient, session_id: str) -> Any:
    return _checked(await client.get(f"/v1/sessions/{session_id}"))


async def _unless_it_fails(wanted: Any, following: "asyncio.Task[None]") -> None:
    """Return when `wanted` is there; a follower that fails meanwhile fails the whole."""
    task = asyncio.ensure_future(wanted)
    try:
        await asyncio.wait({task, following}, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
    finally:
        task.cancel()


def _checked(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise Disagreement(
            f"{answer.request.method} {answer.request.url.path} was answered with {answer.status_code}: {answer.text}"
        )
    return answer.json()


def _compare(title: str, what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Disagreement(f"{title}: {what}: {found!r} instead of {expected!r}")
