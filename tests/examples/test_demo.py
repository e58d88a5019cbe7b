"""The demo's parts against a real `stepwell serve`, with one game and one opening instead of all."""

import dataclasses

import httpx
import pytest

from examples.demo.games import read_games
from examples.demo.health import watched_health
from examples.demo.play import Disagreement, play_opening, replay
from examples.demo.service import running_service

SHORTEST = min(read_games(), key=lambda game: len(game.moves))


async def test_a_game_and_an_opening_agree_with_the_library_and_a_wrong_position_is_noticed() -> None:
    with running_service() as url, watched_health(url) as health:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            moved: list[None] = []
            replayed = await replay(client, SHORTEST, lambda: moved.append(None))
            opening = await play_opening(client, seed=1, half_moves=2)
            with pytest.raises(Disagreement, match="final position"):
                await replay(client, dataclasses.replace(SHORTEST, final_fen="another"), lambda: None)
    assert len(moved) == len(SHORTEST.inputs) == 10
    assert (replayed.steps, opening.steps) == (11, 3)
    assert health.took_ms


def test_the_file_holds_ten_games_of_864_half_moves() -> None:
    games = read_games()
    assert (len(games), sum(len(game.moves) for game in games)) == (10, 864)
