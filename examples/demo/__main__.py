"""Runs the demo and says what came out. Exit code 0: every position agrees, and every follower saw every step once."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.demo.games import Game, read_games
from examples.demo.health import Health, watched_health
from examples.demo.play import Disagreement, Outcome, play_opening, replay
from examples.demo.service import ServiceFailed, running_service

OPENINGS = 200
OPENING_HALF_MOVES = 6
PATIENCE_S = 600.0  # for an answer: all openings are asked for at once, and computed by as many processes as there are cores

Play = Callable[[], Awaitable[Outcome]]
Played = tuple[list[Outcome], list[str], float]  # what came out right, what did not, seconds


class Demo:
    """The two acts, on one console. `failures` holds a line for everything that did not come out right."""

    def __init__(self, client: httpx.AsyncClient, console: Console) -> None:
        self._client = client
        self._console = console
        self.failures: list[str] = []

    async def replay_games(self, games: Sequence[Game]) -> None:
        """Replay all games at once, with a bar for each."""
        half_moves = sum(len(game.moves) for game in games)
        self._console.print(
            f"Replaying {len(games)} games ({half_moves} half-moves) as concurrent sessions, each followed by SSE"
        )
        with self._progress() as progress:
            plays = [self._replay(game, progress) for game in games]
            await self._act(f"{half_moves} half-moves and {sum(len(game.inputs) for game in games) - half_moves} results", plays)

    async def play_openings(self) -> None:
        """Let the engine play against itself in many sessions at once."""
        self._console.print(f"\nPlaying {OPENINGS} engine-against-engine openings of {OPENING_HALF_MOVES} half-moves at once")
        with self._progress() as progress:
            bar = progress.add_task("openings", total=OPENINGS)

            async def play(seed: int) -> Outcome:
                outcome = await play_opening(self._client, seed, OPENING_HALF_MOVES)
                progress.advance(bar)
                return outcome

            await self._act(f"{OPENINGS * OPENING_HALF_MOVES} half-moves", [play(seed) for seed in range(OPENINGS)])

    async def _replay(self, game: Game, progress: Progress) -> Outcome:
        bar = progress.add_task(game.title, total=len(game.inputs))
        outcome = await replay(self._client, game, lambda: progress.advance(bar))
        if progress.disable:
            self._console.print(f"  {game.title}: {game.result} after {len(game.moves)} half-moves, position agrees")
        return outcome

    async def _act(self, what: str, plays: Sequence[Awaitable[Outcome]]) -> None:
        began = time.perf_counter()
        outcomes = await asyncio.gather(*plays, return_exceptions=True)
        seconds = time.perf_counter() - began
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, Disagreement | httpx.HTTPError | TimeoutError):
                raise failure
            self.failures.append(f"{type(failure).__name__}: {failure}".removesuffix(": "))
        steps = sum(outcome.steps for outcome in outcomes if isinstance(outcome, Outcome))
        self._console.print(f"  {what}: {steps} steps in {seconds:.1f} s, [bold]{steps / seconds:.0f} steps/s[/]")

    def _progress(self) -> Progress:
        columns = (TextColumn("  {task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self._console, disable=not self._console.is_terminal)


async def perform(url: str, console: Console) -> list[str]:
    """Play everything against the service at `url`; return a line for each thing that did not come out right."""
    # an idle connection is given up before the server does that, or a request could meet the closing
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=PATIENCE_S) as client:
        demo = Demo(client, console)
        await demo.replay_games(read_games())
        await demo.play_openings()
        return demo.failures


def main() -> int:
    console = Console(highlight=False, soft_wrap=True)
    try:
        with running_service() as url:
            console.print(f"Stepwell serves examples/chess_game.py at {url} on a temporary SQLite database\n")
            with watched_health(url) as health:
                failures = asyncio.run(perform(url, console))
    except ServiceFailed as exc:
        console.print(f"the service did not start: {exc}", style="red", markup=False)
        return 1
    return _conclude(console, health, failures)


def _conclude(console: Console, health: Health, failures: Sequence[str]) -> int:
    checks = f"{len(health.took_ms)}, median {health.median_ms:.1f} ms, [bold]worst {health.worst_ms:.1f} ms[/]"
    console.print(f"\nHealth checks meanwhile: {checks}")
    for failure in failures:
        console.print(failure, style="red", markup=False)
    if failures:
        console.print(f"{len(failures)} sessions did not come out right", style="bold red")
        return 1
    console.print(
        "Every final position agrees with the chess library's; every follower saw every step exactly once", style="bold green"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
