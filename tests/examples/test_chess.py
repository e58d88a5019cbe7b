"""The chess example keeps to the rules, and its engine to good sense."""

import warnings
from collections.abc import Iterator
from typing import Any

import chess
import pytest

from app.engine import Application, BlockingActionWarning
from examples.chess_game import IllegalMove, ImpossibleGame, best_move
from examples.chess_game import chess as chess_machine
from examples.demo.games import Game, read_games


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingActionWarning)
        yield


async def new_game(**settings: Any) -> "Application[Any]":
    application = chess_machine().with_state(**settings).build()
    await application.astep()
    return application


async def two_people(**settings: Any) -> "Application[Any]":
    return await new_game(white="person", black="person", **settings)


async def moves(application: "Application[Any]", *given: str) -> dict[str, Any]:
    for move in given:
        await application.arun(halt_after=["move"], inputs={"move": move})
    return dict(application.state)


@pytest.mark.parametrize("game", read_games(), ids=lambda game: game.title)
async def test_a_recorded_game_comes_out_as_the_library_has_it(game: Game) -> None:
    state = await moves(await two_people(recorded=True), *game.inputs)
    assert (state["fen"], state["result"], state["waits_for"]) == (game.final_fen, game.result, "nobody")
    assert len(state["moves"]) == len(game.moves)


async def test_a_person_s_move_is_answered_and_the_run_waits_for_the_next() -> None:
    application = await new_game()
    assert application.get_next_action().name == "move"
    await application.arun(halt_before=["move"], inputs={"move": "e4"})
    assert application.get_next_action().name == "move"
    assert application.state["moves"][0] == "e2e4"
    assert len(application.state["moves"]) == 2


async def test_the_engine_opens_when_it_has_white() -> None:
    application = chess_machine().with_state(white="engine", black="person").build()
    await application.arun(halt_before=["move"])
    assert len(application.state["moves"]) == 1


@pytest.mark.parametrize("text", ["e5", "Ke2", "e2e5", "", "nonsense", "O-O", "--", "0000"])
async def test_an_illegal_move_is_a_clear_error_and_changes_nothing(text: str) -> None:
    application = await two_people()
    before = dict(application.state)
    with pytest.raises(IllegalMove, match="no legal move for White here; legal are Na3, Nc3"):
        await moves(application, text)
    assert dict(application.state) == before
    assert (await moves(application, "e4"))["moves"] == ["e2e4"]


async def test_a_gap_in_a_score_sheet_is_no_way_out_of_check() -> None:
    application = await two_people(recorded=True)
    await moves(application, "e4", "e5", "--", "Qh4", "--", "Qxf2")
    with pytest.raises(IllegalMove):
        await moves(application, "--")


async def test_checkmate_ends_the_game() -> None:
    application = await two_people()
    state = await moves(application, "f3", "e5", "g4", "Qh4#")
    assert (state["result"], state["ending"]) == ("0-1", "checkmate")
    assert application.get_next_action() is None


@pytest.mark.parametrize(
    ("start", "move", "ending"),
    [
        ("7k/8/6K1/8/8/8/8/5Q2 w - - 0 1", "Qf7", "stalemate"),
        ("7k/8/8/8/8/8/6p1/7K w - - 0 1", "Kxg2", "insufficient material"),
        ("7k/8/8/8/8/8/8/R6K w - - 149 90", "Ra2", "seventy-five moves without progress"),
    ],
)
async def test_the_rules_end_a_game_as_a_draw(start: str, move: str, ending: str) -> None:
    state = await moves(await two_people(start=start), move)
    assert (state["result"], state["ending"], state["waits_for"]) == ("1/2-1/2", ending, "nobody")


async def test_the_fifth_repetition_ends_the_game() -> None:
    state = await moves(await two_people(), *(["Nf3", "Nf6", "Ng1", "Ng8"] * 4))
    assert (state["result"], state["ending"]) == ("1/2-1/2", "fivefold repetition")


async def test_resigning_is_for_the_side_to_move() -> None:
    state = await moves(await two_people(), "e4", "resign")
    assert (state["result"], state["ending"]) == ("1-0", "resignation")


async def test_two_people_may_agree_on_a_draw_but_the_engine_does_not() -> None:
    assert (await moves(await two_people(), "1/2-1/2"))["ending"] == "agreement"
    with pytest.raises(IllegalMove, match="does not agree"):
        await moves(await new_game(), "draw")


async def test_the_third_repetition_is_a_draw_by_claim() -> None:
    application = await two_people()
    await moves(application, *(["Nf3", "Nf6", "Ng1", "Ng8"] * 2))
    assert (await moves(application, "draw"))["ending"] == "threefold repetition"


async def test_a_draw_by_the_rules_can_be_claimed_from_the_engine() -> None:
    application = await new_game(start="7k/8/8/8/8/8/8/R6K w - - 100 90")
    assert (await moves(application, "draw"))["ending"] == "fifty moves without progress"


@pytest.mark.parametrize("text", ["1-0", "0-1"])
async def test_nobody_resigns_for_the_engine(text: str) -> None:
    players = {"white": "engine", "black": "person"} if text == "0-1" else {}
    application = chess_machine().with_state(**players).build()
    await application.arun(halt_before=["move"])
    with pytest.raises(IllegalMove, match="does not resign"):
        await moves(application, text)


@pytest.mark.parametrize(
    "settings",
    [
        {"white": "nobody"},
        {"depth": 0},
        {"depth": 9},
        {"depth": "2"},
        {"start": "no position"},
        {"start": 7},
        {"start": "8/8/8/8/8/8/8/8 w - - 0 1"},
    ],
)
async def test_a_game_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ImpossibleGame):
        await new_game(**settings)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_engine_finds_a_mate_and_leaves_the_board_as_it_was(depth: int) -> None:
    board = chess.Board("6k1/5ppp/8/8/8/8/8/R3K3 w - - 0 1")
    assert best_move(board, depth=depth, seed=0) == chess.Move.from_uci("a1a8")
    assert board.fen() == "6k1/5ppp/8/8/8/8/8/R3K3 w - - 0 1"


def test_the_engine_takes_what_hangs_and_repeats_itself_for_a_seed() -> None:
    board = chess.Board("rnb1kbnr/ppp1pppp/8/3q4/8/2N5/PPPP1PPP/R1BQKBNR w KQkq - 0 3")
    assert {best_move(board, depth=2, seed=7) for _ in range(3)} == {chess.Move.from_uci("c3d5")}


def test_seeds_vary_the_engine_s_choice() -> None:
    assert len({best_move(chess.Board(), depth=2, seed=seed) for seed in range(20)}) > 1


async def test_engine_against_engine_plays_on_its_own() -> None:
    application = await new_game(white="engine", black="engine", depth=1)
    for _ in range(6):
        await application.astep()
    board = chess.Board()
    for move in application.state["moves"]:
        board.push_uci(move)
    assert board.fen() == application.state["fen"]
    assert len(application.state["moves"]) == 6
