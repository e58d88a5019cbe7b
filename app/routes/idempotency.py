"""`Idempotency-Key`: what makes a POST the same one when it comes again.

The key belongs to the path that it is sent to. What is asked for is compared as JSON, not letter by letter.
"""

import json
from hashlib import blake2b

from pydantic import BaseModel

from app.persistence.records import Key
from app.routes.lean import Incoming
from app.routes.requests import MOST_ON_LOOP_BYTES, HeaderInvalid
from app.system.clocks import current_time_s
from app.system.encoding_threads import run_aside

__all__ = ["key_of"]

_LONGEST = 255
_PIECEWISE = json.JSONEncoder(sort_keys=True)
"""`iterencode` gives the text of `json.dumps`, made in Python: other threads get their turn meanwhile."""


async def key_of(incoming: Incoming, body: BaseModel) -> Key | None:
    """Return the key of a request, None if it has none. Raises HeaderInvalid."""
    header = incoming.header(b"idempotency-key")
    if header is None:
        return None
    text = header.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not (0 < len(text) <= _LONGEST and text.isprintable()):
        raise HeaderInvalid("Idempotency-Key", f"1 to {_LONGEST} printable characters")
    digest = _digest(f"{incoming.scope['path']}\n{text}")
    if len(await incoming.body()) > MOST_ON_LOOP_BYTES:
        asked = await run_aside(lambda: _digest("".join(_PIECEWISE.iterencode(body.model_dump()))))
    else:
        asked = _digest(json.dumps(body.model_dump(), sort_keys=True))
    return Key(digest, asked, current_time_s())


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
