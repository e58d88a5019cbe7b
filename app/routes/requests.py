"""What a request says, read and checked: its body, its preconditions, its preferences.

Bodies are parsed as strict JSON (no NaN, no name twice in an object, no numbers that lose digits or are beyond all numbers) and
checked by pydantic models; what is found wrong is told without the value that was found.
"""

import re
from collections.abc import Collection
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs

import jiter
import orjson
from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError

from app.routes.http.accept import is_accepted
from app.routes.http.checks import is_json
from app.routes.lean import Incoming
from app.routes.unrepresentable import unrepresentable
from app.sessions.errors import PositionInvalid
from app.sessions.ids import check_id
from app.system.clocks import event_time_us
from app.system.encoding_threads import run_aside

__all__ = [
    "MOST_ON_LOOP_BYTES",
    "BodyInvalid",
    "BodyMalformed",
    "BodyTooLarge",
    "HeaderInvalid",
    "MediaTypeUnsupported",
    "Number",
    "expected_seqs",
    "last_event_id",
    "read_body",
    "run_id_of",
    "session_id_of",
    "wants_minimal",
    "wants_no_wait",
    "wants_stream",
]

Model = TypeVar("Model", bound=BaseModel)

_ETAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')
_EVENT_ID = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"0|-?[1-9][0-9]*")
_MOST_ERRORS = 20
MOST_ON_LOOP_BYTES = 64 * 1024
"""Of a body that is read on the event loop, which takes about a millisecond; a larger one is read in a thread."""
_LONGEST_NAME = 100
_CLOCKS_DIFFER_BY_S = 86_400.0
_SEQ = re.compile(r"-1|0|[1-9][0-9]{0,18}")


class RequestError(Exception):
    """Root of what can be wrong with a request as such."""


class BodyMalformed(RequestError):
    """The body is not JSON."""


class BodyInvalid(RequestError):
    """The body is JSON of the wrong form. `errors` names each place and what is wrong there."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{each['where']}: {each['message']}" for each in errors))
        self.errors = errors


class BodyTooLarge(RequestError):
    """The body is larger than the service takes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class MediaTypeUnsupported(RequestError):
    """The body says that it is something else than JSON, or does not say what it is."""

    def __init__(self, media_type: str) -> None:
        found = repr(media_type[:100]) if media_type else "missing"
        super().__init__(f"the Content-Type must be application/json; it is {found}")


class HeaderInvalid(RequestError):
    """A header has a value that it cannot have."""

    def __init__(self, header: str, expected: str) -> None:
        super().__init__(f"{header} must be {expected}")
        self.header = header


def _one_way_to_write_it(found: Any) -> Any:
    if isinstance(found, str) and not _NUMBER.fullmatch(found):
        raise PydanticCustomError("number", "Input should be a valid integer, written in digits alone")
    return found


Number = Annotated[int, BeforeValidator(_one_way_to_write_it)]
"""A number in a path or a query: neither `+1` nor `01`, or one thing would have many addresses."""


def session_id_of(incoming: Incoming) -> str:
    """Return the session id in the path. Raises IdInvalid."""
    return check_id(incoming.path_param("session_id"), "the session id")


def run_id_of(incoming: Incoming) -> str:
    """Return the run id in the path. Raises IdInvalid."""
    return check_id(incoming.path_param("run_id"), "the run id")


def last_event_id(incoming: Incoming) -> int | None:
    """Return where a follower wants to go on; None when it does not say. Raises HeaderInvalid, PositionInvalid."""
    asked = parse_qs(incoming.scope["query_string"].decode("latin-1")).get("last_event_id")
    text = (asked[0] if asked else incoming.header(b"last-event-id") or "").strip()
    if not text:
        return None
    if not _EVENT_ID.fullmatch(text):
        raise HeaderInvalid("Last-Event-ID", "the id of an event of this stream, or 0")
    event_id = int(text)
    if event_id > event_time_us() + _CLOCKS_DIFFER_BY_S * 1e6:  # ids are times: whoever waits for this one would wait for ever
        raise PositionInvalid
    return event_id


async def read_body(incoming: Incoming, model: type[Model]) -> Model:
    """Return the body as `model`; no body at all counts as `{}`. Raises BodyMalformed, BodyInvalid, MediaTypeUnsupported."""
    raw = await incoming.body()
    if not raw:
        return _validated({}, model)
    media_type = incoming.header(b"content-type") or ""
    if not is_json(media_type):
        raise MediaTypeUnsupported(media_type)
    if len(raw) <= MOST_ON_LOOP_BYTES:
        return _read(raw, model)
    return await run_aside(lambda: _read(raw, model))


def _read(raw: bytes, model: type[Model]) -> Model:
    """Return the body `raw` as `model`. Raises BodyMalformed, BodyInvalid."""
    try:
        document = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
        orjson.loads(raw)  # refuses 1e999, which is an infinity in `document`; what it reads has lost digits of long numbers
    except ValueError as exc:
        errors = unrepresentable(raw, is_too_deep="recursion" in str(exc))
        if errors:
            raise BodyInvalid(errors) from None
        raise BodyMalformed(f"the body is not JSON: {exc}") from None
    return _validated(document, model)


def expected_seqs(incoming: Incoming) -> frozenset[int] | None:
    """Return the seqs that If-Match allows; None when any will do. Raises HeaderInvalid for what is no entity tag."""
    header = incoming.header(b"if-match")
    if header is None or header.strip() == "*":
        return None
    seqs = set()
    for part in header.split(","):
        tag = _ETAG.fullmatch(part)
        if tag is None:
            raise HeaderInvalid("If-Match", 'an ETag of this service, like "3", or *')
        if _SEQ.fullmatch(tag[1]) and not part.lstrip().startswith("W/"):
            seqs.add(int(tag[1]))
    return frozenset(seqs)


def wants_minimal(incoming: Incoming) -> bool:
    """Whether the client prefers an answer without the state (RFC 7240)."""
    return not {"return=minimal", 'return="minimal"'}.isdisjoint(_preferences(incoming))


def wants_no_wait(incoming: Incoming) -> bool:
    """Whether the client prefers an answer before the work is done (RFC 7240)."""
    return "respond-async" in _preferences(incoming)


def _preferences(incoming: Incoming) -> Collection[str]:
    header = incoming.header(b"prefer")
    return () if header is None else [part.strip().replace(" ", "").lower() for part in re.split("[,;]", header)]


def wants_stream(incoming: Incoming) -> bool:
    """Whether the client asks for server-sent events."""
    accept = incoming.header(b"accept")
    return accept is not None and "text/event-stream" in accept.lower() and is_accepted(accept, "text/event-stream")


def _validated(document: Any, model: type[Model]) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_context=False, include_input=False)
        raise BodyInvalid([{"where": _place(each["loc"]), "message": each["msg"]} for each in found[:_MOST_ERRORS]]) from None


def _place(loc: tuple[int | str, ...]) -> str:
    """Return where in a body something is; a name that the client has made up is cut."""
    return ".".join(["body", *(str(part)[:_LONGEST_NAME] for part in loc)])
