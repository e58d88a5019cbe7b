"""What an error of a user's code says, as far as that can be found out without doing whatever its class and its values like."""

from typing import Final

from app.engine.serde_size import are_many

__all__ = ["said_by"]

_MOST_VALUES: Final = 20_000  # that are written out: objects that share their parts can stand for any number, and fill the memory


def said_by(error: BaseException) -> str:
    """Return `str(error)`, or why it was not made. Never fails."""
    try:
        if are_many(error.args, _MOST_VALUES):
            return f"its text is not made: it would hold more than {_MOST_VALUES:,} values"
        return str(error)
    except BaseException as exc:  # the error is a user's, and so is the method that makes its text
        return f"its text cannot be made: __str__ raised {type(exc).__name__}"
