"""Where a list of sessions goes on: the position of the last one shown, as an opaque string."""

import base64
import binascii

import orjson

from app.persistence.store import CursorInvalid

__all__ = ["decode_cursor", "encode_cursor"]

_MOST = 2**63 - 1


def encode_cursor(position: int) -> str:
    """Return the cursor of the page after the session at `position`, a number that grows with every new session."""
    return base64.urlsafe_b64encode(orjson.dumps(["s", position])).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> int:
    """Return the position that is in `cursor`. Raises CursorInvalid."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        content = orjson.loads(raw)
    except (ValueError, binascii.Error):  # also what orjson and str.encode raise
        content = None
    match content:
        case ["s", int(position)] if type(position) is int and 0 <= position <= _MOST:
            return position
    raise CursorInvalid("the cursor was not given out by this service")
