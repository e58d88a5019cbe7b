"""The recorded games, as the chess library reads them: the moves to replay, and the position that must come out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import chess.pgn

__all__ = ["GAMES", "Game", "position_after", "read_games"]

GAMES = Path(__file__).parent.parent / "data" / "games.pgn"


@dataclass(frozen=True, slots=True)
class Game:
    """One game. `moves` are in SAN; `result` is the PGN's; `final_fen` the position after the last move."""

    title: str
    moves: tuple[str, ...]
    result: str
    final_fen: str
    ends_by_rule: bool

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the players put in: the moves, and the result where the rules alone do not end the game."""
        return self.moves if self.ends_by_rule else (*self.moves, self.result)


def read_games(path: Path = GAMES) -> list[Game]:
    """Return the games of a PGN file. Raises ValueError for a file without any, or with a move that cannot be read."""
    games: list[Game] = []
    with path.open(encoding="utf-8") as file:
        while record := chess.pgn.read_game(file):
            if record.errors:
                raise ValueError(f"game {len(games) + 1} of {path.name} cannot be read: {record.errors[0]}")
            games.append(_game(record))
    if not games:
        raise ValueError(f"{path.name} holds no game")
    return games


def _game(record: chess.pgn.Game) -> Game:
    board = record.board()
    moves = []
    for move in record.mainline_moves():
        moves.append(board.san(move))
        board.push(move)
    players = " - ".join(record.headers.get(side, "?").split(",")[0].split(" (")[0] for side in ("White", "Black"))
    return Game(players, tuple(moves), record.headers["Result"], board.fen(), board.outcome() is not None)


def position_after(moves: Sequence[str]) -> str:
    """Return the FEN after `moves`, in UCI from the start of a game. Raises ValueError for one that is not legal."""
    board = chess.Board()
    for move in moves:
        board.push_uci(move)
    return board.fen()
