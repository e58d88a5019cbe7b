"""A game of chess by the real rules: person against engine, two people (or a recorded game), or engine against engine.

A session's initial state says who plays: `white` and `black` are each "person" or "engine" (default: a person has White).
`depth` (1 to 4) is how far the engine looks, `seed` varies its choice among moves that it finds equally good, and `start`
is a FEN to start from. The first step, `new_game`, checks all that; then a run halts before `move` whenever a person is
to move, and takes the move as its input:

    {"inputs": {"move": "Nf3"}, "halt_before": ["move"]}

A move is in SAN or UCI. As at the end of a PGN, "1-0", "0-1" and "1/2-1/2" resign or agree on a draw; "resign" and "draw"
do it for the side to move. An illegal move is an error and leaves the game as it was. With `recorded` set, the moves come
from a score sheet, and "--" stands for one that nobody wrote down.
"""

import random
from typing import Any

import chess as library
from chess import Board, Move

from app.engine import ApplicationBuilder, State, action, when

PLAYERS = ("person", "engine")
ENDINGS = {
    library.Termination.CHECKMATE: "checkmate",
    library.Termination.STALEMATE: "stalemate",
    library.Termination.INSUFFICIENT_MATERIAL: "insufficient material",
    library.Termination.SEVENTYFIVE_MOVES: "seventy-five moves without progress",
    library.Termination.FIVEFOLD_REPETITION: "fivefold repetition",
    library.Termination.FIFTY_MOVES: "fifty moves without progress",
    library.Termination.THREEFOLD_REPETITION: "threefold repetition",
}


class IllegalMove(ValueError):
    """The rules do not allow what a player wants; the game stands as before."""


class ImpossibleGame(ValueError):
    """A session cannot start from the state it was created with."""


# --- actions -----------------------------------------------------------------------------------------------------------

GAME = ["fen", "moves", "result", "ending", "waits_for"]  # what every move changes
SETTINGS = ["white", "black", "recorded", "depth", "seed", "start"]  # what a session is created with


@action(reads=SETTINGS, writes=[*SETTINGS, *GAME])
async def new_game(state: State) -> State:
    """Set up the board. Raises ImpossibleGame for players, a depth or a position that do not exist."""
    white, black = state.get("white", "person"), state.get("black", "engine")
    recorded = bool(state.get("recorded", False))
    depth, seed, start = state.get("depth", 2), state.get("seed", 0), state.get("start", library.STARTING_FEN)
    if white not in PLAYERS or black not in PLAYERS:
        raise ImpossibleGame("'white' and 'black' must each be 'person' or 'engine'")
    if not isinstance(depth, int) or not 1 <= depth <= 4:
        raise ImpossibleGame("'depth' must be a whole number from 1 to 4")
    try:
        board = Board(start)
    except (ValueError, TypeError, AttributeError) as exc:
        raise ImpossibleGame("'start' must be a position in FEN") from exc
    if not board.is_valid():
        raise ImpossibleGame("'start' is a position that no game of chess can reach")
    settled = state.update(white=white, black=black, recorded=recorded, depth=depth, seed=seed, start=start, moves=[])
    return settled.update(fen=board.fen(), **_standing(board, white, black))


@action(reads=["white", "black", "recorded", "start", "fen", "moves"], writes=GAME)
async def move(state: State, move: str) -> tuple[dict[str, Any], State]:
    """Make the move, or resign or agree on a draw. Raises IllegalMove."""
    board = _board(state)
    text = move.strip()
    if text in ("resign", "draw", "1-0", "0-1", "1/2-1/2"):
        over = _ended_by_players(text, board, state["white"], state["black"])
        return {"move": text, **over}, state.update(**over, waits_for="nobody", fen=state["fen"], moves=state["moves"])
    return _moved(state, board, _parsed(board, text, is_recorded=state["recorded"]))


@action(reads=["white", "black", "depth", "seed", "start", "fen", "moves"], writes=GAME, executor="process")
def reply(state: State) -> tuple[dict[str, Any], State]:
    """Make the engine's move. Burns CPU; the same game always gets the same reply."""
    board = _board(state)
    return _moved(state, board, best_move(board, depth=state["depth"], seed=state["seed"]))


def chess() -> ApplicationBuilder:
    """A game of chess; see the top of this file for its settings and inputs."""
    return (
        ApplicationBuilder()
        .with_actions(new_game, move, reply)
        .with_transitions(
            (["new_game", "move", "reply"], "move", when(waits_for="person")),
            (["new_game", "move", "reply"], "reply", when(waits_for="engine")),
        )
        .with_state(white="person", black="engine", recorded=False, depth=2, seed=0, start=library.STARTING_FEN)
        .with_entrypoint("new_game")
    )


# --- rules -------------------------------------------------------------------------------------------------------------


def _board(state: State) -> Board:
    """Return the position, with the moves that led to it when a repetition could matter."""
    board = Board(state["fen"])
    if board.halfmove_clock < 6:  # the next move cannot bring a position for the third time
        return board
    board = Board(state["start"])
    for uci in state["moves"]:
        board.push(Move.from_uci(uci))
    return board


def _parsed(board: Board, text: str, *, is_recorded: bool) -> Move:
    for parse in (board.parse_san, board.parse_uci):
        try:
            found = parse(text)
        except ValueError:
            continue
        if found or (is_recorded and not board.is_check()):  # the null move is false
            return found
    side = "White" if board.turn == library.WHITE else "Black"
    legal = ", ".join(sorted(board.san(each) for each in board.legal_moves))
    raise IllegalMove(f"{text[:20]!r} is no legal move for {side} here; legal are {legal}")


def _moved(state: State, board: Board, chosen: Move) -> tuple[dict[str, Any], State]:
    san = board.san(chosen)
    board.push(chosen)
    standing = _standing(board, state["white"], state["black"])
    result = {"move": san, "uci": chosen.uci(), "fen": board.fen(), "result": standing["result"], "ending": standing["ending"]}
    return result, state.update(fen=board.fen(), **standing).append(moves=chosen.uci())


def _standing(board: Board, white: str, black: str) -> dict[str, Any]:
    """Return what the rules say of a position: the result, or who has to go on."""
    outcome = board.outcome()
    if outcome is not None:
        return {"result": outcome.result(), "ending": ENDINGS[outcome.termination], "waits_for": "nobody"}
    return {"result": "*", "ending": None, "waits_for": white if board.turn == library.WHITE else black}


def _ended_by_players(text: str, board: Board, white: str, black: str) -> dict[str, Any]:
    """Return result and ending of a game that the players end. Nobody resigns for the engine, or agrees for it."""
    if text in ("draw", "1/2-1/2"):
        claimed = board.outcome(claim_draw=True)
        if claimed is not None:
            return {"result": "1/2-1/2", "ending": ENDINGS[claimed.termination]}
        if "engine" in (white, black):
            raise IllegalMove("the engine does not agree to a draw, and there is none to claim")
        return {"result": "1/2-1/2", "ending": "agreement"}
    if text == "resign":
        text = "0-1" if board.turn == library.WHITE else "1-0"
    if (black if text == "1-0" else white) == "engine":
        raise IllegalMove(f"the engine does not resign, so {text!r} is no end of this game")
    return {"result": text, "ending": "resignation"}


# --- the engine's choice -----------------------------------------------------------------------------------------------

MATE = 100_000
NEARLY_EQUAL = 12  # centipawns
WORTH = {
    library.PAWN: 100,
    library.KNIGHT: 320,
    library.BISHOP: 330,
    library.ROOK: 500,
    library.QUEEN: 900,
    library.KING: 0,
}


def _placed(piece: int, square: int) -> int:
    """Return the centipawns of a white piece on a square: what it is worth, and a little for standing well."""
    rank, file = library.square_rank(square), library.square_file(square)
    from_centre = max(abs(2 * rank - 7), abs(2 * file - 7))  # 1 in the centre, 7 at the edge
    if piece == library.PAWN:
        return WORTH[piece] + 6 * (rank - 1) + (12 - 4 * abs(2 * file - 7)) * (rank in (2, 3, 4))
    if piece == library.KING:
        return 4 * from_centre - 10 * rank
    return WORTH[piece] + (7 - from_centre) * (4 if piece in (library.KNIGHT, library.BISHOP) else 1)


TABLE = {
    (piece, white): [_placed(piece, square if white else library.square_mirror(square)) for square in library.SQUARES]
    for piece in WORTH
    for white in (True, False)
}


def best_move(board: Board, *, depth: int, seed: int) -> Move:
    """Return a move that is best, or nearly, to `depth` half-moves; `seed` picks among equals. `board` is left as it was."""
    scored: list[tuple[int, Move]] = []
    best = -2 * MATE
    for each in _ordered(board):
        board.push(each)
        score = -_search(board, depth - 1, -2 * MATE, NEARLY_EQUAL - best)
        board.pop()
        scored.append((score, each))
        best = max(best, score)
    choices = [each for score, each in scored if score > best - NEARLY_EQUAL]
    return random.Random(f"{seed} {board.fen()}").choice(choices)


def _search(board: Board, depth: int, alpha: int, beta: int) -> int:
    """Return what the side to move can reach, in centipawns: alpha-beta, and captures to the end at the leaves."""
    if board.is_insufficient_material():
        return 0
    if depth <= 0:
        return _quiet(board, alpha, beta)
    any_legal = False
    for each in _ordered(board):
        any_legal = True
        board.push(each)
        score = -_search(board, depth - 1, -beta, -alpha)
        board.pop()
        if score >= beta:
            return score
        alpha = max(alpha, score)
    if not any_legal:
        return -MATE - depth if board.is_check() else 0
    return alpha


def _quiet(board: Board, alpha: int, beta: int) -> int:
    """Return the value once no capture pays any more: a leaf in the middle of an exchange says nothing."""
    if board.is_checkmate():
        return -MATE
    standing = _evaluated(board)
    if standing >= beta:
        return standing
    alpha = max(alpha, standing)
    for each in sorted(board.generate_legal_captures(), key=lambda each: _gain(board, each), reverse=True):
        board.push(each)
        score = -_quiet(board, -beta, -alpha)
        board.pop()
        if score >= beta:
            return score
        alpha = max(alpha, score)
    return alpha


def _evaluated(board: Board) -> int:
    """Return the balance of all pieces, seen from the side to move."""
    total = 0
    for piece in WORTH:
        for square in board.pieces(piece, library.WHITE):
            total += TABLE[piece, True][square]
        for square in board.pieces(piece, library.BLACK):
            total -= TABLE[piece, False][square]
    return total if board.turn == library.WHITE else -total


def _ordered(board: Board) -> list[Move]:
    """Return the legal moves, the likely good ones first: that is what makes alpha-beta short."""
    return sorted(board.legal_moves, key=lambda each: _gain(board, each), reverse=True)


def _gain(board: Board, candidate: Move) -> int:
    victim = board.piece_type_at(candidate.to_square) or 0
    mover = board.piece_type_at(candidate.from_square) or 0
    promotion = 10 * (candidate.promotion or 0)
    return (10 * victim - mover if victim else 0) + promotion
