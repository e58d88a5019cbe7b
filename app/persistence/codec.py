"""What a stored blob looks like: one byte that says how to read it, then JSON, deflated when that pays.

High nibble of the first byte: format version. Low nibble: 0 plain, 1 zlib. A format that was ever released stays readable;
`tests/persistence/golden` has a file of each. Nothing here touches a database.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from app.engine.operations import Append, Delete, Extend, Increment, Operation, Set
from app.persistence.store import StoreError

__all__ = ["PayloadInvalid", "decode_payload", "decode_state", "encode_payload", "encode_state", "pack", "unpack"]

_PLAIN = b"\x10"
_DEFLATED = b"\x11"
_DEFLATE_ABOVE_BYTES = 1024
_DEFLATE_LEVEL = 3


def encode(value: Any) -> Any:
    return value


def decode(value: Any) -> Any:
    return value


class PayloadInvalid(StoreError):
    """A stored blob is damaged, or written by a newer version than this one."""


def pack(document: Any) -> bytes:
    """Return the blob of a JSON-able `document`."""
    plain = orjson.dumps(document)
    if len(plain) <= _DEFLATE_ABOVE_BYTES:
        return _PLAIN + plain
    deflated = zlib.compress(plain, _DEFLATE_LEVEL)
    return _DEFLATED + deflated if len(deflated) < len(plain) else _PLAIN + plain


def unpack(blob: bytes) -> Any:
    """Return the document of a blob. Raises PayloadInvalid."""
    head, body = blob[:1], blob[1:]
    try:
        if head == _PLAIN:
            return orjson.loads(body)
        if head == _DEFLATED:
            return orjson.loads(zlib.decompress(body))
    except (zlib.error, orjson.JSONDecodeError):
        # `from None`: the JSON error carries the text, and the text is state
        raise PayloadInvalid(f"a stored blob of {len(blob)} bytes is damaged") from None
    raise PayloadInvalid(f"a stored blob has the unknown format {head.hex() or 'nothing'}: it was written by another version")


def encode_state(state: Mapping[str, Any]) -> bytes:
    """Return the blob of a whole state. Raises UnserializableValue."""
    return pack({key: encode(value) for key, value in state.items()})


def decode_state(blob: bytes) -> dict[str, Any]:
    return {key: decode(value) for key, value in unpack(blob).items()}


def encode_payload(operations: tuple[Operation, ...], result: Any) -> bytes:
    """Return the blob of one step. Raises UnserializableValue."""
    return pack([[_to_document(operation) for operation in operations], encode(result)])


def decode_payload(blob: bytes) -> tuple[tuple[Operation, ...], Any]:
    """Return the operations and the result of one step."""
    operations, result = unpack(blob)
    return tuple(_from_document(document) for document in operations), decode(result)


def _to_document(operation: Operation) -> list[Any]:
    match operation:
        case Set(key, value):
            return ["s", key, encode(value)]
        case Append(key, value):
            return ["a", key, encode(value)]
        case Extend(key, items):
            return ["e", key, [encode(item) for item in items]]
        case Increment(key, by):
            return ["i", key, encode(by)]
        case Delete(key):
            return ["d", key]


def _from_document(document: list[Any]) -> Operation:
    match document:
        case ["s", key, value]:
            return Set(key, decode(value))
        case ["a", key, value]:
            return Append(key, decode(value))
        case ["e", key, items]:
            return Extend(key, tuple(decode(item) for item in items))
        case ["i", key, by]:
            return Increment(key, decode(by))
        case ["d", key]:
            return Delete(key)
    raise PayloadInvalid("a stored step holds an operation that this version does not know")
