"""Where a list of sessions goes on: the position of the last one shown, as an opaque string."""

import base64
import binascii
import math

import orjson

from app.persistence.store import CursorInvalid

__all__ = ["decode_cursor", "encode_cursor"]


def encode_cursor(created_at_s: float, session_id: str) -> str:
    """Return the cursor of the page after the session that was created then and has this id."""
    return base64.urlsafe_b64encode(orjson.dumps([created_at_s, session_id])).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Return `(created_at_s, session_id)` of the last session shown. Raises CursorInvalid."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = orjson.loads(raw)
    except (ValueError, binascii.Error) as exc:  # also what orjson and str.encode raise
        raise CursorInvalid("the cursor was not given out by this service") from exc
    match position:
        case [float(created_at_s), str(session_id)] if math.isfinite(created_at_s):
            return created_at_s, session_id
    raise CursorInvalid("the cursor was not given out by this service")
