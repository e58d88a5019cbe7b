"""What a stored blob looks like: one byte that says how to read it, then JSON, deflated when that pays.

High nibble of the first byte: format version. Steps are 2, and may hold the run that ended with them, 3 if they change parts
of values, and 4 if their result refers to the state after them; they are deflated with a dictionary. Everything else is 1. Low
nibble: 0 plain, 1 zlib. A format that was ever released stays readable; `tests/persistence/golden` has a file of each.
Values become JSON through `app.engine.serde`. Nothing here touches a database.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

from app.engine.edits import Edit, read_edit, write_edit
from app.engine.operations import Append, Delete, Extend, Increment, Patch, Set, StoredOperation
from app.engine.serde import (
    UndecodableValue,
    UnreadableValue,
    UnserializableValue,
    decode_hosted,
    decode_readable,
    encode,
    first_unreadable,
)
from app.engine.state import values_of
from app.persistence.dictionary import DICTIONARY
from app.persistence.records import EncodedStep
from app.persistence.results import shared, state_keys
from app.persistence.store import StoreError

__all__ = [
    "PayloadInvalid",
    "Unreadable",
    "decode_document",
    "decode_operations",
    "decode_payload",
    "decode_run",
    "decode_state",
    "decode_values",
    "deflate",
    "encode_payload",
    "encode_state",
    "encode_step",
    "operation_documents",
    "pack",
    "refers_to_state",
    "state_documents",
    "unpack",
    "with_run",
]

Unreadable: TypeAlias = list[UnreadableValue]
"""Where a reader collects what cannot be read back."""

_PLAIN, _DEFLATED = b"\x10", b"\x11"
_PLAIN_STEP, _DEFLATED_STEP = b"\x20", b"\x21"
_PLAIN_PATCHES, _DEFLATED_PATCHES = b"\x30", b"\x31"
_PLAIN_REFERRING, _DEFLATED_REFERRING = b"\x40", b"\x41"
_DEFLATED_FORM = {
    _PLAIN: _DEFLATED,
    _PLAIN_STEP: _DEFLATED_STEP,
    _PLAIN_PATCHES: _DEFLATED_PATCHES,
    _PLAIN_REFERRING: _DEFLATED_REFERRING,
}
_DEFLATE_ABOVE_BYTES = 128
# level, method, window and memory; a small window costs a tenth of the usual 64 µs to set up
_SMALL_BYTES = 4096
_INTERRUPTIBLE_ABOVE_BYTES = 256 * 1024
_SMALL = (3, zlib.DEFLATED, 12, 5)
_LARGE = (3, zlib.DEFLATED, 15, 8)


class PayloadInvalid(StoreError):
    """A stored blob is damaged, or written by a newer version than this one."""


def pack(document: Any) -> bytes:
    """Return the blob of a JSON-able `document`."""
    return deflate(_PLAIN + orjson.dumps(document))


def deflate(plain: bytes) -> bytes:
    """Return the same blob in its smaller form. Worth a thread if it is large: zlib lets the event loop run meanwhile."""
    if len(plain) <= _DEFLATE_ABOVE_BYTES:
        return plain
    how = _SMALL if len(plain) <= _SMALL_BYTES else _LARGE
    head = plain[:1]
    deflater = zlib.compressobj(*how) if head == _PLAIN else zlib.compressobj(*how, zdict=DICTIONARY)
    deflated = deflater.compress(plain[1:]) + deflater.flush()
    return _DEFLATED_FORM.get(head, _DEFLATED) + deflated if len(deflated) < len(plain) - 1 else plain


def unpack(blob: bytes) -> Any:
    """Return the document of a blob. Raises PayloadInvalid."""
    head, body = blob[:1], memoryview(blob)[1:]
    try:
        if head in _DEFLATED_FORM:
            return _parsed(body)
        if head in (_DEFLATED_STEP, _DEFLATED_PATCHES, _DEFLATED_REFERRING):
            return _parsed(zlib.decompressobj(zdict=DICTIONARY).decompress(body))
        if head == _DEFLATED:
            return _parsed(zlib.decompress(body))
    except (zlib.error, ValueError):
        # `from None`: the JSON error carries the text, and the text is state
        raise PayloadInvalid(f"a stored blob of {len(blob)} bytes is damaged") from None
    raise PayloadInvalid(f"a stored blob has the unknown format {head.hex() or 'nothing'}: another version wrote it")


def _parsed(text: bytes | memoryview) -> Any:
    """Return the document that JSON text stands for. Raises ValueError.

    orjson keeps the GIL for the whole text. Of a large one it would stop the event loop, even from another thread; the standard
    library's parser takes a third longer and calls Python code at each object, where other threads get their turn.
    """
    if len(text) <= _INTERRUPTIBLE_ABOVE_BYTES:
        return orjson.loads(text)
    return json.loads(bytes(text), object_hook=_same, parse_constant=_refuse_constant)


def _same(document: dict[str, Any]) -> dict[str, Any]:
    return document


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def decode_document(blob: bytes, unreadable: Unreadable | None = None) -> Any:
    """Return the value of a blob that is neither a state nor a step. Raises PayloadInvalid, as `decode_state` does."""
    return _decoded(unpack(blob), unreadable)


def encode_state(state: Mapping[str, Any]) -> bytes:
    """Return the blob of a whole state, not deflated yet. Raises UnserializableValue."""
    return _PLAIN + orjson.dumps(encode(dict(values_of(state))))


def decode_state(blob: bytes, unreadable: Unreadable | None = None) -> dict[str, Any]:
    """Return the state of a blob. Raises PayloadInvalid.

    A value that cannot be read back raises that, too; or it is an UnreadableValue in its place, and in the list `unreadable`.
    """
    return decode_values(state_documents(blob), unreadable)


def decode_values(documents: Mapping[str, Any], unreadable: Unreadable | None = None) -> dict[str, Any]:
    """Return the values of a state's documents. Raises PayloadInvalid, as `decode_state` does."""
    return {key: _decoded(document, unreadable) for key, document in documents.items()}


def state_documents(blob: bytes) -> dict[str, Any]:
    """Return what `encode_state` wrote, each value still as a document. Raises PayloadInvalid."""
    match unpack(blob):
        case {"$": ["dict", list(pairs)]}:
            return {_decoded(key): document for key, document in pairs}
        case dict(documents) if "$" not in documents:
            return documents
    raise PayloadInvalid("a stored snapshot is no mapping")


def operation_documents(blob: bytes) -> list[Any]:
    """Return what `encode_payload` wrote of the operations of one step, as documents. Raises PayloadInvalid."""
    match unpack(blob):
        case [list(written), *_]:
            return written
    raise PayloadInvalid("a stored step does not have the form of a step")


def encode_payload(operations: tuple[StoredOperation, ...], result: Any, run: list[Any] | None = None) -> bytes:
    """Return the blob of one step, not deflated yet; `run` is the document of the run that ended with it.

    Raises UnserializableValue.
    """
    return with_run(encode_step(operations, result), run)


def encode_step(operations: tuple[StoredOperation, ...], result: Any, state: Mapping[str, Any] | None = None) -> EncodedStep:
    """Return the values of a step as they are stored. Raises UnserializableValue, whose path begins with the key of the state.

    A result mostly repeats what the step wrote to the state: such values are stored once, as a reference to the operation, or to
    the `state` after the step if that is given.
    """
    written = [_to_document(operation) for operation in operations]
    references, rest = shared(operations, result, state)
    try:
        document = [written, encode(rest)]
    except UnserializableValue as error:
        raise error.under("result") from None
    if references is not None:
        document.append(references)
    head = _PLAIN_STEP
    for operation in written:
        if operation[0] == "p":
            head = _PLAIN_PATCHES
    if state is not None and state_keys(references):
        head = _PLAIN_REFERRING
    return EncodedStep(head + orjson.dumps(document), references is not None)


def with_run(step: EncodedStep, run: list[Any] | None) -> bytes:
    """Return the blob of a step, not deflated yet; `run` is the document of the run that ended with it, or None."""
    if run is None:
        return step.blob
    return b"%b%b,%b]" % (step.blob[:-1], b"" if step.has_references else b",null", orjson.dumps(run))


def decode_operations(blob: bytes, unreadable: Unreadable | None = None) -> tuple[StoredOperation, ...]:
    """Return the operations of one step. Raises PayloadInvalid, as `decode_state` does."""
    return _operations(unpack(blob), unreadable)


def refers_to_state(blob: bytes) -> bool:
    """Whether a part of the result of a step is found in the state after it, and nowhere else."""
    return blob[:1] in (_PLAIN_REFERRING, _DEFLATED_REFERRING)


def decode_payload(
    blob: bytes, unreadable: Unreadable | None = None, state: Mapping[str, Any] | None = None
) -> tuple[tuple[StoredOperation, ...], Any]:
    """Return the operations and the result of one step; `state` is the one after it as documents, if `refers_to_state`.

    Raises PayloadInvalid, as `decode_state` does.
    """
    document = unpack(blob)
    operations = _operations(document, unreadable)
    result = _decoded(document[1], unreadable)
    match document[2:3]:
        case [int(index)]:
            result = _value_of(document, index, unreadable)
        case [dict(references)]:
            for key, place in references.items():
                found = _value_in(state, place, unreadable) if type(place) is str else _value_of(document, place, unreadable)
                result[key] = found
    return operations, result


def decode_run(blob: bytes) -> Any:
    """Return the document of the run that ended with a step, None if the step holds none. Raises PayloadInvalid."""
    match unpack(blob):
        case [_, _, _, run]:
            return run
    return None


def _operations(document: Any, unreadable: Unreadable | None) -> tuple[StoredOperation, ...]:
    match document:
        case [list(written), *_]:
            return tuple(_from_document(operation, unreadable) for operation in written)
    raise PayloadInvalid("a stored step does not have the form of a step")


def _to_document(operation: StoredOperation) -> list[Any]:
    try:
        return _document_of(operation)
    except UnserializableValue as error:
        raise error.under(f"state[{operation.key!r}]") from None


def _document_of(operation: StoredOperation) -> list[Any]:
    key = encode(operation.key)
    # not `match`, which costs a third of a step's payload
    if isinstance(operation, Set):
        return ["s", key, encode(operation.value)]
    if isinstance(operation, Append):
        return ["a", key, encode(operation.value)]
    if isinstance(operation, Increment):
        return ["i", key, encode(operation.by)]
    if isinstance(operation, Extend):
        return ["e", key, [encode(item) for item in operation.items]]
    if isinstance(operation, Patch):
        return ["p", key, [write_edit(edit) for edit in operation.edits]]
    return ["d", key]


def _from_document(document: Any, unreadable: Unreadable | None) -> StoredOperation:
    match document:
        case ["s", key, value]:
            return Set(_decoded(key), _decoded(value, unreadable))
        case ["a", key, value]:
            return Append(_decoded(key), _decoded(value, unreadable))
        case ["e", key, list(items)]:
            return Extend(_decoded(key), tuple(_decoded(item, unreadable) for item in items))
        case ["i", key, by]:
            return Increment(_decoded(key), _decoded(by))
        case ["d", key]:
            return Delete(_decoded(key))
        case ["p", key, list(edits)]:
            return Patch(_decoded(key), tuple([_edit(edit, unreadable) for edit in edits]))
    raise PayloadInvalid("a stored step holds an operation that this version does not know")


def _value_of(document: list[Any], index: int, unreadable: Unreadable | None) -> Any:
    return _decoded(document[0][index][2], unreadable)


def _value_in(state: Mapping[str, Any] | None, key: str, unreadable: Unreadable | None) -> Any:
    if state is None or key not in state:
        raise PayloadInvalid(f"the result of a stored step is found in key {key!r} of its state, which is not there")
    return _decoded(state[key], unreadable)


def _edit(document: Any, unreadable: Unreadable | None) -> Edit:
    try:
        return read_edit(document, lambda part: _decoded(part, unreadable))
    except UndecodableValue as exc:
        raise PayloadInvalid(str(exc)) from None


def _decoded(document: Any, unreadable: Unreadable | None = None) -> Any:
    try:
        return decode_hosted(document)
    except UndecodableValue as exc:
        if unreadable is None:
            raise PayloadInvalid(str(exc)) from None
        value = decode_readable(document)
        found = first_unreadable(value)
        if found is not None:
            unreadable.append(found)
        return value
